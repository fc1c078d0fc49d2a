"""What the jobs of each stage ask a cluster for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irexp.artifact.stages import STAGES
from irexp.config.check import near
from irexp.sweep.graph import LEFT_TO_JOBS


def resources_of(
    default: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The resources of each stage that a launcher has jobs for, and what is wrong with the names of stages.

    Args:
        default: what each job asks for.
        stages: what the jobs of a stage ask for instead.
    """
    known = [name for name, stage in STAGES.items() if stage.makes is not None and name not in LEFT_TO_JOBS]
    faults = [
        f"hydra.launcher.stages.{name}: no stage of that name has jobs{near(name, known)}"
        for name in stages
        if name not in known
    ]
    return {name: {**default, **stages.get(name, {})} for name in known}, faults
