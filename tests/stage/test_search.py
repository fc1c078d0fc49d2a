"""A search that is killed loses a batch of queries, and ends with the run of one that is not."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from irexp.evaluation.run_file import read_run
from irexp.index.index import Index
from irexp.index.ranking import Ranking, rank
from irexp.pipeline import search as pipeline
from irexp.pipeline.index import OpenIndex, open_index
from irexp.pipeline.machine import making_share
from irexp.stage.execute import Outcome
from tests.chains import STAGES, Compose, run, settings, write_collection


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A dozen documents, and four queries: one has a document's id, and BM25 finds nothing for another."""
    queries = {"d0": "make cups", "q1": "list songs", "q2": "zzz", "q3": "copy some trees"}
    return write_collection(tmp_path / "toys", queries, {"test": "".join(f"{query}\td3\t1\n" for query in queries)})


def run_of(outcome: Outcome) -> bytes:
    """The run file of a search, whose folder holds nothing but what every run has."""
    folder = Path(str(outcome.path))
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "test.run", "test.run.ir_metadata.yml"}
    return (folder / "test.run").read_bytes()


@pytest.mark.parametrize("model", ["sbert", "bm25"])
def test_a_killed_search_resumes(
    compose: Compose,
    tmp_path: Path,
    collection: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    model: str,
) -> None:
    """Killed in its third batch of queries, it does not search the others again, and writes the same bytes."""
    (removed := tmp_path / "removed.txt").write_text("d5\nd05\n")
    more = [f"model={model}", "machine.query_batch=1", "search.remove_query=true", f"search.exclude_path={removed}"]
    overrides = settings(tmp_path, collection, *more)
    stages = [name for name in STAGES[:-1] if model == "sbert" or name in ("index", "search")]
    whole = run(compose, [*overrides, f"paths.artifacts={tmp_path / 'whole'}"], stages)["search"]
    calls = 0

    def killed_in_the_third(*arguments: Any, **named: Any) -> list[Ranking]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return rank(*arguments, **named)

    monkeypatch.setattr(pipeline, "rank", killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(compose, overrides, stages)
    with caplog.at_level("INFO"):
        resumed = run(compose, overrides, stages)["search"]
    assert calls == 3 + 2
    assert "1 of the 2 ids in search.exclude_path" in caplog.text and "such as 'd05'" in caplog.text
    assert "resuming after 2 queries" in caplog.text
    assert run_of(resumed) == run_of(whole)
    assert resumed.measures == whole.measures
    assert resumed.measures["queries_without_hit"] == (1.0 if model == "bm25" else 0.0)
    pairs = {(line.query_id, line.doc_id) for line in read_run(Path(str(resumed.path)) / "test.run")}
    assert pairs and not {("d0", "d0"), *((query, "d5") for query in ("d0", "q1", "q2", "q3"))} & pairs


def test_a_share_without_a_batch_opens_no_index(
    compose: Compose, tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only batch is that of the first share; nor does another task load the index for what is made."""
    overrides = settings(tmp_path, collection, "model=bm25")
    run(compose, overrides, ["index"])
    opened: list[Path] = []

    def counted(engine: Index, folder: Path) -> OpenIndex:
        opened.append(folder)
        return open_index(engine, folder)

    monkeypatch.setattr("irexp.stage.search.open_index", counted)
    for number, count in ((1, 0), (0, 1), (0, 1)):
        with making_share((number, 2)):
            assert run(compose, overrides, ["search"])["search"].status == "made a share"
        assert len(opened) == count


def test_what_an_earlier_step_left_is_freed(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """The collector spares what is imported, but not what refers to itself, as a trainer and its model do."""
    overrides = settings(tmp_path, collection, "model=bm25")
    run(compose, overrides, ["index"])
    model = torch.nn.Linear(1, 1)
    model.itself = [model]  # type: ignore[assignment]
    left = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert left() is not None
        run(compose, overrides, ["search"])
        assert left() is None
    finally:
        gc.enable()
