"""The benchmark of whole pipelines gives both libraries the same texts, and notices different results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from irexp import new_model, open_documents, open_topics, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.dataset.in_memory import TextDocuments, TextTopics
from irexp.evaluation.run_file import read_run, write_run
from irexp.peer.chain import STAGES, Chain, run_of, timed
from irexp.peer.library_irexp import stages_of
from irexp.types import ScoredDoc
from tests.benchmark.end_to_end import check_same, difference, table, write_data

DOCUMENTS = TextDocuments({str(number): f"copy  the\tsong {number}" for number in range(6)})
TOPICS = TextTopics({"a": "a song", "b": "to\ncopy"}, {"a": ["1"], "b": ["2"]})


def chain(folder: Path, name: str) -> Chain:
    """A pipeline of three documents per query."""
    (folder / name).mkdir()
    paths: dict[str, Any] = {part: str(folder / part) for part in ("encoder", "scorer", "data")}
    sizes: dict[str, Any] = {"depth": 3, "documents": 6, "queries": 2, "threads": 1}
    return Chain(**paths, output=str(folder / name), query_length=8, document_length=12, **sizes)


def test_irexp_writes_both_runs_and_times_every_stage(
    backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """From texts to a re-ranked run; the same work has the same results, and other scores are an error."""
    for name, model in (("encoder", "sbert"), ("scorer", "mono")):
        save(new_model(model, backbone=backbones["encoder"], query_length=8, document_length=12), tmp_path / name)
    assert write_data(tmp_path / "data", DOCUMENTS, TOPICS) == {"documents": 6, "queries": 2}
    first, second = chain(tmp_path, "first"), chain(tmp_path, "second")
    found = [timed(stages_of(each)) for each in (first, second)]
    assert list(found[0]["stages"]) == list(STAGES)
    assert all(seconds["wall_seconds"] > 0 for one in found for seconds in one["stages"].values())
    runs = [list(read_run(run_of(first, stage))) for stage in ("search", "re_rank")]
    assert [len(run) for run in runs] == [6, 6]
    assert {line[:2] for line in runs[0]} == {line[:2] for line in runs[1]}
    check_same(first, second)
    write_run(run_of(second, "re_rank"), [line._replace(score=line.score + 1) for line in runs[1]], tag="x")
    with pytest.raises(RuntimeError, match=r"re_rank: 100\.0% of the results are the same, and scores differ by 1"):
        check_same(first, second)


def test_both_formats_hold_the_same_texts(tmp_path: Path) -> None:
    """Each as one line without tabs."""
    write_data(tmp_path / "data", DOCUMENTS, TOPICS)
    rows = [line.split("\t") for line in (tmp_path / "data" / "docs.tsv").read_text(encoding="utf8").splitlines()]
    assert rows == [[document.doc_id, document.text] for document in open_documents(tmp_path / "data")]
    assert rows[0] == ["0", "copy the song 0"]
    rows = [line.split("\t") for line in (tmp_path / "data" / "queries.tsv").read_text(encoding="utf8").splitlines()]
    assert rows == [[query.query_id, query.text] for query in open_topics(tmp_path / "data").queries()]


def test_missing_and_further_results_are_differences() -> None:
    """A library that leaves out a query is not faster."""
    ours = [ScoredDoc("a", str(number), float(number)) for number in range(4)]
    assert difference(ours, ours) == (1.0, 0.0)
    assert difference(ours, ours[:3]) == difference(ours[:3], ours) == (0.75, 0.0)
    assert difference(ours, [line._replace(score=line.score - 0.5) for line in ours]) == (1.0, 0.5)


def test_the_table_has_medians_and_the_median_of_the_ratios_of_each_round() -> None:
    """Of each stage, and of their sum."""

    def one(*seconds: float) -> dict[str, Any]:
        parts = zip(STAGES, seconds, strict=True)
        return {"stages": {stage: {"cpu_seconds": value, "wall_seconds": 2 * value} for stage, value in parts}}

    rounds = {
        "irexp": [one(1, 1, 2), one(2, 1, 1), one(1, 2, 2)],
        "lightning_ir": [one(2, 3, 7), one(6, 3, 3), one(3, 2, 5)],
    }
    rows = table({"one": rounds, "all": rounds}).splitlines()[2:]
    assert rows[0] == "| index | 1.0 | 3.0 | 3.0 | 2.0 | 6.0 | 3.0 |"
    assert rows[-1] == "| all | 4.0 | 12.0 | 3.0 | 8.0 | 24.0 | 3.0 |"
    assert len(rows) == 4
