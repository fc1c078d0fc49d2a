"""A long stage that independent processes make in shares is the one that a single process makes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from irexp.artifact.identity import Identity
from irexp.artifact.plan import Plan
from irexp.artifact.store import Store
from irexp.sweep.graph import Planned, Task, divided, merge
from irexp.sweep.make import Place, make
from tests.chains import Compose, planned, run, settings, write_collection
from tests.reliability.jobs import write_queries
from tests.sweep.test_sweep import finish, without_command

#: The stages that can be divided, with overrides for three windows of documents or batches of queries each.
DIVIDED = {
    "encode": ["model=sbert", "machine.shard_size=4"],
    "search": ["model=sbert", "machine.query_batch=1"],
    "re_rank": ["model=mono", "re_rank=bm25", "machine.query_batch=1"],
    "score": ["model=mono", "score=bm25", "machine.query_batch=1"],
}


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A dozen documents and three queries, with which models are trained and tested."""
    queries = {"q0": "make a cup", "q1": "list trees", "q2": "copy a song"}
    split = "q0\td0\t1\nq1\td4\t1\nq2\td11\t1\n"
    return write_collection(tmp_path / "toys", queries, dict.fromkeys(("train", "dev", "test"), split))


@pytest.fixture(autouse=True)
def _arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)  # which a worker replaces


def tasks_of(plan: Plan, shares: int) -> dict[str, Task]:
    """The tasks that make what is missing of a plan."""
    return divided(merge({0: Planned(plan, {})}).tasks, shares)


def files_of(folder: Path) -> dict[str, bytes]:
    """What an artifact holds, without what says when and where it was made."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".json", ".yml")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "order",
    [pytest.param((1, 0), marks=pytest.mark.slow), (1,)],
    ids=["backwards", "one is missing"],
)
@pytest.mark.parametrize("stage", DIVIDED)
def test_shares_in_any_order_are_completed_to_what_one_process_makes(
    compose: Compose, tmp_path: Path, collection: Path, stage: str, order: Sequence[int]
) -> None:
    """Each share makes its own part alone, leaves the artifact incomplete, and what no share has made is made last."""
    overrides = settings(tmp_path, collection, *DIVIDED[stage])
    stages = ["fit", "encode", "index", "search"] if stage == "search" else ["fit", stage]
    alone = run(compose, [*overrides, f"paths.artifacts={tmp_path / 'alone'}"], stages)[stage]
    tasks = tasks_of(planned(compose, overrides, stages), 2)
    *before, _, _, whole = tasks.values()
    assert whole.stage == stage
    for task in before:
        make(task, Place(tmp_path, ("run.py",)))
    for number in order:
        make(tasks[f"{whole.key}#{number}"], Place(tmp_path, ("run.py",)))
        assert isinstance(whole.step.artifact, Identity)
        assert Store(tmp_path / "artifacts").look(whole.step.artifact).state == "partial"
    make(whole, Place(tmp_path, ("run.py",)))
    made = Store(tmp_path / "artifacts").look(whole.step.artifact)
    assert made.state == "complete" and isinstance(made.place, Path)
    assert files_of(made.place) == files_of(Path(str(alone.path)))
    assert made.measures == alone.measures
    make(tasks[f"{whole.key}#0"], Place(tmp_path, ("run.py",)))  # begins too late, and changes nothing
    assert files_of(made.place) == files_of(Path(str(alone.path)))


def test_a_share_is_made_again_where_it_stopped(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It encodes only its windows that are missing."""
    overrides = settings(tmp_path, collection, *DIVIDED["encode"])
    run(compose, overrides, ["fit"])
    tasks = tasks_of(planned(compose, overrides, ["encode"]), 2)
    share = next(task for task in tasks.values() if task.share == (0, 2))
    make(share, Place(tmp_path, ("run.py",)))
    (partial,) = (tmp_path / "artifacts" / "encoding").glob(".partial-*")
    assert sorted(path.name for path in partial.glob("*.ids")) == ["shard-00000.ids", "shard-00002.ids"]
    (partial / "shard-00002.ids").unlink()
    kept = (partial / "shard-00000.ids").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        make(share, Place(tmp_path, ("run.py",)))
    assert "resuming after 4 documents" in caplog.text
    assert (partial / "shard-00002.ids").is_file() and (partial / "shard-00000.ids").stat().st_mtime_ns == kept


def test_shards_of_another_size_are_left_to_the_last_task(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A killed process began with smaller ones: a share does nothing, rather than mix them."""
    overrides = settings(tmp_path, collection, *DIVIDED["encode"])
    run(compose, overrides, ["fit"])
    plan = planned(compose, overrides, ["encode"])
    first, second, whole = tasks_of(plan, 2).values()
    make(first, Place(tmp_path, ("run.py",)))
    for task in (second, whole):
        task.step.experiment.config.machine.shard_size = 5
    with caplog.at_level("INFO"):
        make(second, Place(tmp_path, ("run.py",)))
    assert "shards of another size were begun" in caplog.text
    make(whole, Place(tmp_path, ("run.py",)))
    (folder,) = (tmp_path / "artifacts" / "encoding").glob("[!.]*")
    assert (folder / "encoding.json").read_text().count('"count": 12') == 1


def test_only_what_can_be_divided_gets_shares(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """The task that completes an artifact needs its shares, and each of them what that needs."""
    plan = planned(compose, settings(tmp_path, collection, "model=sbert"))
    tasks = list(tasks_of(plan, 3).values())
    fit, *shares, encode, index = tasks[:6]
    assert [task.label.partition(" ")[0] for task in tasks] == [
        *("fit", *["encode"] * 4, "index", *["search"] * 4, "evaluate")
    ]
    assert [task.share for task in shares] == [(0, 3), (1, 3), (2, 3)]
    assert shares[1].label.endswith(", share 2 of 3")
    assert all(task.needs == {fit.key} for task in shares)
    assert encode.needs == {fit.key, *(task.key for task in shares)} and index.needs == {encode.key}
    undivided = merge({0: Planned(plan, {})}).tasks
    assert divided(undivided, 1) == dict(undivided)
    forced = {key: replace(task, is_forced=True) for key, task in undivided.items()}
    assert list(divided(forced, 3)) == list(undivided)  # made from an empty folder


def test_what_keeps_all_shares_busy_is_logged(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fewer documents or queries leave jobs idle; a forced artifact is not divided, nor is an index."""
    caplog.set_level("INFO", logger="irexp.sweep.graph")
    plan = planned(compose, settings(tmp_path, collection, *DIVIDED["re_rank"]), ["fit", "re_rank"])
    encoding = planned(compose, settings(tmp_path, collection, *DIVIDED["encode"]), ["fit", "encode"])
    tasks = merge({0: Planned(plan, {}), 1: Planned(encoding, {})}).tasks
    divided(tasks, 1)
    assert not caplog.messages
    divided(tasks, 16)
    assert caplog.messages == [
        "encode: with fewer than 61 documents some of the 16 shares may have nothing to do, since "
        "machine.shard_size=4; then lower it, or hydra.launcher.shares",
        "re_rank: with fewer than 16 queries some of the 16 shares may have nothing to do, since "
        "machine.query_batch=1; then lower it, or hydra.launcher.shares",
        "search: with fewer than 16 queries some of the 16 shares may have nothing to do, since "
        "machine.query_batch=1; then lower it, or hydra.launcher.shares",
    ]
    caplog.clear()
    divided({key: replace(task, is_forced=task.stage == "encode") for key, task in tasks.items()}, 16)
    assert caplog.messages[0].startswith("hydra.launcher.shares=16 is not used for encode sbert.")
    assert "since force makes it again in one piece; without force it is divided" in caplog.messages[0]
    assert [message.partition(":")[0] for message in caplog.messages[1:]] == ["re_rank", "search"]
    caplog.clear()
    tasks_of(planned(compose, settings(tmp_path, collection, "model=bm25"), ["index"]), 16)
    assert caplog.messages == [
        "hydra.launcher.shares=16 is not used: nothing is to be encoded, searched, scored or re-ranked"
    ]


@pytest.mark.slow
def test_workers_make_the_shares_of_a_sweep(tmp_path: Path) -> None:
    """Two processes encode three shares at a time; all artifacts are those of a sweep without them."""
    toys = write_queries(tmp_path / "toys")
    sweep = ("-m", "stage=[fit,encode,index,search,evaluate]", "training=none", "seed=1,2", "machine.shard_size=3")
    finish(tmp_path / "basic", toys, *sweep)
    text = finish(tmp_path / "graph", toys, *sweep, "hydra/launcher=graph", "hydra.launcher.shares=3")
    assert without_command(tmp_path / "graph" / "artifacts") == without_command(tmp_path / "basic" / "artifacts")
    for number in (1, 2, 3):
        assert f", share {number} of 3 done in" in text
