"""The plans of several jobs, merged."""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from irexp.artifact import provenance
from irexp.artifact.git import GitState
from irexp.artifact.identity import Identity
from irexp.artifact.manifest import read_manifest
from irexp.artifact.plan import Plan
from irexp.artifact.stages import STAGES
from irexp.artifact.store import Store
from irexp.sweep import make as make_module
from irexp.sweep.graph import Graph, Planned, merge
from irexp.sweep.make import Place, make
from tests.chains import STAGES as NAMES
from tests.chains import Compose, planned, run, settings


def merged(*plans: Plan) -> Graph:
    """The graph of jobs with these plans."""
    return merge({number: Planned(plan, {}) for number, plan in enumerate(plans)})


def labels(graph: Graph) -> list[str]:
    """The stages of the tasks, in order, each with the model."""
    return [f"{task.stage} {task.step.name.partition('/')[2].partition('.')[0]}" for task in graph.tasks.values()]


PlanOf = Callable[..., Plan]


@pytest.fixture
def plan_of(compose: Compose, tmp_path: Path, collection: Path) -> PlanOf:
    """Plans overrides on the small collection."""

    def _plan_of(*more: str, names: list[str] = NAMES) -> Plan:
        return planned(compose, settings(tmp_path, collection, *more), names)

    return _plan_of


def test_equal_artifacts_of_two_jobs_are_one_task(plan_of: PlanOf) -> None:
    """Two engines of a model share its checkpoint and encoding, though each job has both in its plan."""
    flat, hnsw = plan_of("model=sbert"), plan_of("model=sbert", "index=faiss_hnsw")
    graph = merged(flat, hnsw)
    assert labels(graph) == [
        *("fit sbert", "encode sbert", "index sbert", "search sbert", "evaluate sbert"),
        *("index sbert", "search sbert", "evaluate sbert"),
    ]
    assert len(flat.own) + len(hnsw.own) == 10
    assert set(graph.jobs[0]) & set(graph.jobs[1]) == set(list(graph.tasks)[:2])
    assert {key for keys in graph.jobs.values() for key in keys} == set(graph.tasks)


def test_each_task_stands_after_those_that_it_needs(plan_of: PlanOf) -> None:
    """Its needs are its inputs that are missing; the first job alone uses what the second one makes."""
    graph = merged(plan_of("model=sbert", names=["search"]), plan_of("model=sbert", names=["fit", "encode", "index"]))
    assert labels(graph) == ["fit sbert", "encode sbert", "index sbert", "search sbert"]
    before: set[str] = set()
    for task in graph.tasks.values():
        assert task.needs <= before
        before.add(task.key)
    assert [len(task.needs) for task in graph.tasks.values()] == [0, 1, 1, 2]


def test_a_job_that_may_not_make_what_it_needs_has_no_task(plan_of: PlanOf) -> None:
    """It meets its own error when it runs; the other job's tasks are made."""
    graph = merged(plan_of("model=sbert", names=["search"]), plan_of("model=bm25", names=["index", "search"]))
    assert labels(graph) == ["index bm25", "search bm25"]
    assert list(graph.jobs) == [1]


def test_what_exists_is_no_task_unless_it_is_forced(
    compose: Compose, plan_of: PlanOf, tmp_path: Path, collection: Path
) -> None:
    """A forced one is made once, for all jobs; the speed of a search is measured by the jobs, when no worker runs."""
    run(compose, settings(tmp_path, collection, "model=bm25"))
    plan = plan_of("model=bm25")
    assert not merged(plan, plan).tasks
    graph = merged(plan, plan_of("model=bm25", "force=[search]"), plan_of("model=bm25", "stage=speed", names=["speed"]))
    assert [(task.stage, task.is_forced) for task in graph.tasks.values()] == [("search", True)]
    assert graph.jobs == {0: (), 1: tuple(graph.tasks), 2: ()}


def test_jobs_with_other_folders_of_artifacts_share_nothing(plan_of: PlanOf, tmp_path: Path) -> None:
    """Each folder gets its own artifact."""
    other = plan_of("model=bm25", f"paths.artifacts={tmp_path / 'other'}", names=["index"])
    assert labels(merged(plan_of("model=bm25", names=["index"]), other)) == ["index bm25", "index bm25"]


def test_a_task_is_the_same_in_another_process(plan_of: PlanOf) -> None:
    """Pickled, it names the same artifact, inputs and stage, and its own plan makes nothing else."""
    graph = merged(plan_of("model=sbert"))
    for task in graph.tasks.values():
        copy = pickle.loads(pickle.dumps(task))
        assert copy.step.stage is STAGES[task.stage]
        assert copy.step.artifact == task.step.artifact
        assert [step.name for step in copy.plan.steps] == [step.name for step in task.plan.steps]
        assert [step.name for step in copy.plan.makes] == [task.step.name]
        assert copy.plan.experiment.config == task.step.experiment.config


def test_a_task_has_the_swept_overrides_that_its_jobs_share(plan_of: PlanOf) -> None:
    """Two engines of a seed share its training, which is named after the seed; each index has both."""
    jobs = {
        0: Planned(plan_of("model=sbert"), {}, ("seed=1", "index=faiss_flat")),
        1: Planned(plan_of("model=sbert", "index=faiss_hnsw"), {}, ("seed=1", "index=faiss_hnsw")),
    }
    found = {f"{task.stage} {number}": task.swept for number, task in enumerate(merge(jobs).tasks.values())}
    assert found["fit 0"] == found["encode 1"] == ("seed=1",)
    assert (found["index 2"], found["index 5"]) == (("seed=1", "index=faiss_flat"), ("seed=1", "index=faiss_hnsw"))


def test_the_patch_of_changed_code_is_where_the_manifest_says(
    plan_of: PlanOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the sweep's folder, also of a worker that began after the code had changed again."""
    monkeypatch.setattr(sys, "argv", sys.argv)  # which a worker replaces
    graph = merged(plan_of("model=bm25", names=["index", "search"]))
    for task, patch in zip(graph.tasks.values(), (b"first", b"second"), strict=True):
        state = GitState("0" * 40, patch, "")
        for module in (make_module, provenance):
            monkeypatch.setattr(module, "own_state", lambda state=state: state)
        make(task, Place(tmp_path, ("run.py",)))
        assert isinstance(task.step.artifact, Identity)
        recorded = read_manifest(Store(tmp_path / "artifacts").folder(task.step.artifact))["provenance"]
        patches = [path.read_bytes() for path in Path(recorded["output"]).glob("changes*.patch")]
        assert recorded["git"]["patch"] in [hashlib.sha256(one).hexdigest() for one in patches]
    assert len(patches) == 2
