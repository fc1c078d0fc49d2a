"""The benchmark of trainings gives every library what irexp trains on, and compares what they find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from irexp import component, open_examples
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.dataset.examples import QrelExamples
from irexp.dataset.in_memory import TextDocuments, TextTopics
from irexp.model.dense import DenseBiEncoder
from irexp.peer.data import without_known_positives, write_batches
from irexp.peer.training import Training, factor, make_optimizer
from irexp.training.batch import Batches
from irexp.training.schedule import linear_warmup
from tests.benchmark.fit_lines import Line, p_values, read, table, write
from tests.benchmark.fit_peers import Contender, merged, training_of


def trained(model: str, **settings: dict[str, object]) -> Training:
    """A training of two steps."""
    contender = Contender(model, "irexp", "irexp", settings=settings)
    return training_of(contender, Path("initial"), Path("data"), steps=20, batch_size=4, seed=1)


def test_the_other_libraries_have_the_learning_rate_of_each_step_of_irexp() -> None:
    """Another warm-up would train another model."""
    for steps, warm_up in ((20, 2), (7, 1), (150, 15)):
        expected = [linear_warmup(step, steps=steps, warmup=warm_up) for step in range(steps)]
        assert [factor(step, steps=steps, warm_up=warm_up) for step in range(steps)] == pytest.approx(expected)


def test_the_other_libraries_have_the_weight_decay_of_irexp() -> None:
    """Matrices are decayed, biases and norms are not."""
    layer = torch.nn.Linear(2, 3)
    optimizer, _ = make_optimizer(layer.parameters(), trained("sbert"), fused=None)
    decay = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    theirs = component("optimizer")([layer.weight], lr=1.0).param_groups[0]
    assert (decay[id(layer.weight)], decay[id(layer.bias)]) == (theirs["weight_decay"], 0.0)
    assert all(optimizer.defaults[key] == theirs[key] for key in ("betas", "eps"))


def test_a_training_has_the_penalty_of_splade_alone_and_the_settings_of_a_variant() -> None:
    """A FLOPS penalty on dense vectors would be another training."""
    assert trained("sbert").query_weight == 0.0
    assert trained("splade").query_weight > 0.0
    assert trained("sbert", machine={"forward_tokens": 1024}).settings == {"machine": {"forward_tokens": 1024}}


def test_the_data_are_the_batches_of_irexp_in_order_and_a_probe(
    backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """Another order would be another training."""
    texts = {str(number): f"text {number}" for number in range(9)}
    examples = QrelExamples(TextTopics(texts, {number: [number] for number in texts}))
    documents, model = TextDocuments(texts), DenseBiEncoder(backbones["encoder"])
    known = write_batches(tmp_path / "data", examples, documents, model, steps=3, batch_size=4, seed=1)
    pairs, probe = (
        [json.loads(line) for line in (tmp_path / "data" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("pairs", "probe")
    )
    own = open_examples(tmp_path / "data")
    batches = Batches(own, documents, model, size=4, in_batch=True, seed=1)
    expected = [own[place].query.query_id for number in range(3) for place in batches.positions(number)]
    assert [row["query_id"] for row in pairs] == expected
    assert all(row["document"] == texts[row["doc_id"]] == row["query"] for row in pairs)
    assert (probe, known) == (pairs[:4], 0)


def test_a_probe_has_no_document_that_is_relevant_to_another_query() -> None:
    """The libraries would differ: only irexp leaves it out."""
    qrels = {"1": ["a", "b"], "2": ["b"], "3": ["c"]}
    examples = QrelExamples(TextTopics({"1": "one", "2": "two", "3": "three"}, qrels))
    batch = [examples[position] for position in range(len(examples))]
    kept = [(example.query.query_id, example.doc_ids[0]) for example in without_known_positives(examples, batch)]
    assert kept == [("1", "a"), ("3", "c")]


def lines_of_two_models() -> list[Line]:
    """Irexp in rounds 1 to 3, PyLate in rounds 2 and 3, which is better for every query."""
    values = {str(query): query / 10 for query in range(8)}
    better = {query: value + 0.1 + 0.01 * float(query) for query, value in values.items()}
    return [
        Line(
            "sbert", "irexp", 5, 4, [1, 2, 3], [9.0, 4.0, 2.0], [700] * 3, [1.0] * 3, [0] * 3, [better, values, values]
        ),
        Line("sbert", "PyLate", 5, 4, [3, 2], [1.5] * 2, [900] * 2, [1.0] * 2, [0] * 2, [better] * 2),
        Line("colbert", "irexp", 5, 4, [1], [1.0], [700], [1.0], [0], [better]),
    ]


def test_the_table_compares_each_line_with_irexp_on_the_same_model_and_seeds() -> None:
    """A ratio below 1 means fewer processor seconds than irexp; the test is over queries, not rounds."""
    lines = lines_of_two_models()
    assert p_values(lines[:2])["PyLate"] < 0.001
    row = next(line for line in table(lines).splitlines() if "PyLate" in line)
    assert "| 1.500 | 0.50 | 900 |" in row
    assert row.endswith("| +0.1350 | < 0.001 |")


def test_a_stopped_measurement_continues_with_what_was_written(tmp_path: Path) -> None:
    """Its lines are kept, and those of another size are refused instead of mixed."""
    (tmp_path / "README.md").write_text("before <!-- fit_peers: generated --> old <!-- fit_peers: end --> after\n")
    lines = lines_of_two_models()
    write(lines, tmp_path, "beside other work")
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before <!-- fit_peers: generated -->\n\n")
    assert text.endswith(f"beside other work.\n\n{table(lines)}\n\n<!-- fit_peers: end --> after\n")
    rows = [Contender("sbert", name, "irexp") for name in ("irexp", "Lightning IR")]
    found = merged(rows, read(tmp_path), steps=5, batch_size=4)
    assert [(line.model, line.name, line.seeds) for line in found] == [
        ("sbert", "irexp", [1, 2, 3]),
        ("sbert", "PyLate", [3, 2]),
        ("sbert", "Lightning IR", []),
        ("colbert", "irexp", [1]),
    ]
    with pytest.raises(ValueError, match="other steps or batch size"):
        merged(rows, read(tmp_path), steps=6, batch_size=4)
