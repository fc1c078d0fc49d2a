"""The plans of several jobs, merged."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from irexp.artifact.plan import Plan
from irexp.artifact.stages import STAGES
from irexp.sweep.graph import Graph, Planned, merge
from tests.chains import STAGES as NAMES
from tests.chains import Compose, planned, run, settings


def merged(*plans: Plan) -> Graph:
    """The graph of jobs with these plans."""
    return merge({number: Planned(plan, {}) for number, plan in enumerate(plans)})


def labels(graph: Graph) -> list[str]:
    """The stages of the tasks, in order, each with the model."""
    return [f"{task.stage} {task.step.name.partition('/')[2].partition('.')[0]}" for task in graph.tasks.values()]


@pytest.fixture
def plan_of(compose: Compose, tmp_path: Path, collection: Path) -> object:
    """Plans overrides on the small collection."""
    return lambda *more, names=NAMES: planned(compose, settings(tmp_path, collection, *more), names)
