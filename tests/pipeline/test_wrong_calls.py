"""What the functions of `from irexp import …` say of wrong arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from irexp import (
    build_index,
    compare,
    component,
    encode,
    evaluate,
    fit,
    new_model,
    open_documents,
    open_topics,
    search,
)
from irexp.dataset.collection import Topics
from irexp.evaluation.measures import Measured
from irexp.loss.info_nce import InfoNCE
from irexp.loss.loss import Loss
from irexp.types import ScoredDoc, UserError
from tests import tiny
from tests.chains import TEXTS

QUERIES = {"q1": "list the cup", "q2": "delete tree"}
QRELS = {"q1": ["3"], "q2": {"7": 2, "0": 0}}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny BERT."""
    return str(tiny.bert(tmp_path_factory.mktemp("backbone"), "BertForMaskedLM"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: component("los"), "no group 'los'.* did you mean loss"),
        (lambda model: component("loss", "infonce"), "no option 'infonce'; did you mean info_nce"),
        (lambda model: component("index", "plaid", bit=2), "index.bit: .* did you mean bits"),
        (lambda model: component("index", "faiss"), "index.factory: needs a value"),
        (lambda model: component("machine", devices=0), "machine.devices: 0 is out of range"),
        (lambda model: new_model("bm25"), "has no weights"),
        (lambda model: new_model("sbert", poling="cls"), "model.poling: .* did you mean pooling"),
        (lambda model: encode(new_model("mono", backbone=model), TEXTS), "a cross-encoder, which makes no embeddings"),
        (lambda model: build_index(TEXTS, engine=component("index", "sparse")), "index=bm25"),
        (lambda model: search(build_index(TEXTS), {}), "there are no queries"),
        (lambda model: search(build_index(TEXTS), "one query"), "neither|not a file or folder"),
        (lambda model: search(build_index(TEXTS), QUERIES, depth=0), "at least one document"),
        (lambda model: open_topics(open_topics(QUERIES), QRELS), "TextTopics has its own judgements"),
        (lambda model: evaluate([ScoredDoc("q1", "1", 1.0)], open_topics("vaswani", QRELS)), "vaswani has its own"),
        (lambda model: search(build_index(TEXTS), QUERIES, model=new_model(backbone=model)), "faiss_flat"),
        (lambda model: evaluate([ScoredDoc("q9", "1", 1.0)], QRELS), "no query in common"),
        (lambda model: evaluate([ScoredDoc("q1", "1", 1.0)], QRELS, ["nDGC@10"]), "did you mean nDCG@10"),
        (lambda model: evaluate({"q1": {"1": 1.0}}, QRELS), "a run is a file, or .*, not a dictionary"),  # type: ignore[dict-item]
        (lambda model: evaluate([], QRELS), "the run is empty"),
        (lambda model: compare({}), "nothing to compare"),
        (lambda model: compare([_measured()]), 'dictionary of results by the names .*"bm25": evaluate'),  # type: ignore[arg-type]
        (lambda model: compare({"A": _measured(), 1: _measured()}), "the name of a row must be a text, not 1"),  # type: ignore[dict-item]
        (lambda model: compare({"A": {"AP": 0.5}}), "row 'A' is not a result of evaluate, but of type dict"),  # type: ignore[dict-item]
        (lambda model: _fit(model, [("one text",)]), "training example 0"),
        (lambda model: _fit(model, open_topics(QUERIES, QRELS)), "pass documents=… with their texts"),
        (lambda model: _fit(model, [("a", "b")], dev=open_topics(QUERIES, QRELS)), "dev needs documents"),
        (
            lambda model: _fit(
                model, [("a", "b")], training={"precision": "16-mixed"}, machine=component("machine", "cpu")
            ),
            "16-mixed would train in bf16 on a processor",
        ),
        (lambda model: _fit(model, _topics(), _topics()), "documents are TextTopics, not a collection"),
        (lambda model: _fit(model, open_documents(TEXTS), _topics()), "examples are TextDocuments, a collection"),
        (
            lambda model: fit("sbert", InfoNCE(), [("a", "b")], steps=1, learning_rate=1.0),  # type: ignore[arg-type]
            r"model is a str: pass what load\(…\)",
        ),
        (
            lambda model: fit(new_model(backbone=model), nn.MSELoss(), [("a", "b")], steps=1, learning_rate=1.0),  # type: ignore[arg-type]
            "loss is a MSELoss: .* class of your own below irexp.loss.loss.Loss",
        ),
        (
            lambda model: _fit(model, [("a", "b"), ("c", "d")], loss=PerQuery()),
            r"PerQuery.forward returned a tensor of the shape \(32,\), but a loss is a single number",
        ),
        (lambda model: _fit(model, [("a", "b")], training={"stepz": 3}), "training.stepz: .* did you mean steps"),
    ],
)
def test_an_error_of_a_wrong_call_says_what_to_do(call: Callable[[str], object], message: str, backbone: str) -> None:
    """Each is refused before a long computation starts."""
    with pytest.raises(UserError, match=f"(?s){message}"):
        call(backbone)


class PerQuery(InfoNCE):
    """A loss that forgets the mean over the queries."""

    def forward(self, score_BN: Tensor, target_BN: Tensor) -> Tensor:
        """The scores of the first document."""
        return score_BN[:, 0]


def test_judgements_may_be_a_file_and_a_result_prints_in_a_line(tmp_path: Path) -> None:
    """It printed every query's values."""
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\t1\t1\n")
    found = evaluate([ScoredDoc("q1", "1", 1.0)], tmp_path / "qrels.tsv", ["RR@10"])
    assert found.aggregated == evaluate([ScoredDoc("q1", "1", 1.0)], str(tmp_path / "qrels.tsv"), ["RR@10"]).aggregated
    assert repr(found).startswith("Measured(aggregated={'RR@10': 1.0}, missing_queries=0") and "q1" not in repr(found)


@pytest.mark.parametrize(("lines", "message"), [("", " is empty: "), ("x Q0 a 1 1.0 t\n", " and the qrels have no q")])
def test_a_file_without_results_of_judged_queries_is_named(tmp_path: Path, lines: str, message: str) -> None:
    """The message has the path of the run."""
    (tmp_path / "my.run").write_text(lines)
    with pytest.raises(UserError, match=rf"my\.run{message}"):
        evaluate(tmp_path / "my.run", QRELS)


def _topics() -> Topics:
    return open_topics(QUERIES, QRELS)


def _measured() -> Measured:
    return evaluate([ScoredDoc("q1", "1", 1.0)], QRELS, ["RR@10"])


def _fit(backbone: str, examples: Any, documents: Any = None, loss: Loss | None = None, **more: Any) -> None:
    model = new_model(backbone=backbone)
    fit(model, loss or InfoNCE(), examples, documents, steps=1, learning_rate=1e-3, **more)
