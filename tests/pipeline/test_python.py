"""The functions of `from irexp import …`: they lead from texts to a table, with the same results as the stages."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import irexp
from irexp import (
    build_index,
    compare,
    component,
    encode,
    evaluate,
    fit,
    load,
    new_model,
    open_index,
    open_topics,
    re_rank,
    save,
    search,
)
from irexp.config.schema import Machine
from irexp.dataset.collection import Topics
from irexp.evaluation.run_file import read_run, write_run
from irexp.loss.info_nce import InfoNCE
from irexp.model.model import Model
from irexp.types import ScoredDoc, UserError
from tests import tiny
from tests.chains import TEXTS, Compose, run, settings

QUERIES = {"q1": "list the cup", "q2": "delete tree"}
QRELS = {"q1": ["3"], "q2": {"7": 2, "0": 0}}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny BERT."""
    return str(tiny.bert(tmp_path_factory.mktemp("backbone"), "BertForMaskedLM"))


@pytest.fixture(scope="module")
def machine() -> Machine:
    """One thread, without progress bars."""
    found: Machine = component("machine", "cpu", threads=1, progress=False, resume_every=2)
    return found


@pytest.fixture
def topics() -> Topics:
    """Two queries with judgements."""
    return open_topics(QUERIES, QRELS)


@pytest.mark.parametrize("option", ["sbert", "dpr", "splade", "splade_doc", "unicoil", "coil", "colbert", "xtr", "mvr"])
def test_texts_become_a_run(option: str, backbone: str, machine: Machine, topics: Topics) -> None:
    """Without a named engine the search is exact: scores are those of `model.score`, for every bi-encoder."""
    model = new_model(option, backbone=backbone, document_length=24, query_length=16)
    index = build_index(encode(model, TEXTS, machine=machine), machine=machine)
    found = search(index, topics, model=model, depth=3, machine=machine)
    assert [line.query_id for line in found] == ["q1"] * 3 + ["q2"] * 3
    for line in found:
        (score,) = model.score(QUERIES[line.query_id], [TEXTS[int(line.doc_id)]])
        assert line.score == pytest.approx(float(score), abs=1e-4)


def test_functions_give_the_results_of_the_stages(
    compose: Compose, tmp_path: Path, backbone: str, collection: Path, machine: Machine
) -> None:
    """A checkpoint of the stages gives exactly the same run and measures."""
    overrides = settings(tmp_path, collection, "backbone=hugging_face", f"backbone.name_or_path={backbone}")
    made = run(compose, overrides)
    model = load(str(made["fit"].path))
    index = build_index(encode(model, str(collection), machine=machine), machine=machine)
    found = search(index, str(collection), model=model, machine=machine)
    assert found == list(read_run(Path(str(made["search"].path)) / "test.run"))
    assert evaluate(found, str(collection)).aggregated == made["evaluate"].measures


def test_a_written_index_can_be_opened(tmp_path: Path, machine: Machine, topics: Topics) -> None:
    """A BM25 index in a folder is opened with the same results; excluded documents are not found."""
    texts = {f"d{number}": text for number, text in enumerate(TEXTS)}
    built = build_index(texts, tmp_path / "index", machine=machine)
    found = search(built, topics, machine=machine)
    opened = open_index(component("index", "bm25"), tmp_path / "index")
    assert len(opened) == len(TEXTS)
    assert search(opened, topics, machine=machine) == found
    assert found[0] == ScoredDoc("q1", "d3", found[0].score)
    without = search(built, topics, excluded={"d3"}, machine=machine)
    assert [line for line in found if line.doc_id != "d3"] == without


def test_an_engine_makes_and_opens_several_indexes(tmp_path: Path, machine: Machine, topics: Topics) -> None:
    """Each index keeps its own documents, however often the engine is used again."""
    engine = component("index", "bm25")
    first = build_index(TEXTS, tmp_path / "first", engine=engine, machine=machine)
    found = search(first, topics, machine=machine)
    second = build_index(TEXTS[:2], engine=engine, machine=machine)
    again = open_index(engine, tmp_path / "first")
    assert search(first, topics, machine=machine) == search(again, topics, machine=machine) == found
    assert {line.doc_id for line in search(second, topics, machine=machine)} <= {"0", "1"}


def test_a_temporary_folder_is_removed_with_its_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, machine: Machine
) -> None:
    """Otherwise every encoding of a notebook would stay on the disk; an error leaves nothing either."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = new_model("sbert", backbone=backbone)
    encoding = encode(model, TEXTS, machine=machine)
    assert encoding.folder.is_dir()
    index = build_index(encoding, machine=machine)
    del encoding, index
    gc.collect()
    monkeypatch.setattr(model, "pad", _fail)
    with pytest.raises(RuntimeError, match="as intended"):
        encode(model, TEXTS, machine=machine)
    with pytest.raises(RuntimeError, match="as intended"):
        fit(model, InfoNCE(), [("a", "b"), ("c", "d")], steps=1, learning_rate=1e-3, batch_size=2, machine=machine)
    assert not list(tmp_path.iterdir())


def _fail(*arguments: Any, **more: Any) -> None:
    raise RuntimeError("fails as intended")


def test_a_cross_encoder_re_ranks(tmp_path: Path, backbone: str, machine: Machine, topics: Topics) -> None:
    """The top of a run, from memory or a file, is ordered by the model's scores."""
    model = new_model("mono", backbone=backbone)
    candidates = search(build_index(TEXTS, machine=machine), topics, depth=4, machine=machine)
    found = re_rank(model, candidates, topics, TEXTS, depth=2, machine=machine)
    assert {line.doc_id for line in found} <= {line.doc_id for line in candidates}
    for query_id in QUERIES:
        lines = [line for line in found if line.query_id == query_id]
        expected = model.score(QUERIES[query_id], [TEXTS[int(line.doc_id)] for line in lines]).tolist()
        assert [line.score for line in lines] == pytest.approx(sorted(expected, reverse=True), abs=1e-4)
        assert len(lines) == 2
    write_run(tmp_path / "a.run", candidates, tag="t")
    assert re_rank(model, tmp_path / "a.run", topics, TEXTS, depth=2, machine=machine) == found


def test_training_changes_the_model_and_saves_it(tmp_path: Path, backbone: str, machine: Machine) -> None:
    """With judgements as examples and validation by retrieval; the saved checkpoint scores like the model."""
    train = open_topics(TEXTS, {str(number): [str(number)] for number in range(len(TEXTS))})
    model = new_model("sbert", backbone=backbone)
    before = model.score(TEXTS[0], TEXTS)
    found = fit(
        model,
        component("loss", "info_nce"),
        train,
        TEXTS,
        steps=4,
        learning_rate=1e-3,
        batch_size=4,
        dev=train,
        training={"validate_every": 2},
        folder=tmp_path / "model",
        machine=machine,
    )
    assert 0 < found["validation/nDCG@10"] <= 1
    after = model.score(TEXTS[0], TEXTS)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(load(tmp_path / "model").score(TEXTS[0], TEXTS), after)
    assert not (tmp_path / "model" / ".training").exists()


def test_examples_may_be_texts(backbone: str, machine: Machine) -> None:
    """The same texts give the same weights, with and without a collection for the validation."""
    texts = [(TEXTS[n], TEXTS[n + 1], TEXTS[n + 2]) for n in range(8)]
    models = [new_model("sbert", backbone=backbone) for _ in range(2)]
    dev = open_topics(QUERIES, QRELS)
    more: dict[str, Any] = {"steps": 3, "learning_rate": 1e-3, "batch_size": 4, "machine": machine}
    fit(models[0], InfoNCE(), texts, **more)
    fit(models[1], InfoNCE(), texts, TEXTS, dev=dev, training={"validate_every": 3, "patience": None}, **more)
    weights = [model.state_dict() for model in models]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


class Killed(InfoNCE):
    """Stops the program at the fourth step."""

    steps = 0

    def forward(self, *arguments: Any, **more: Any) -> Tensor:
        """The loss, or an error."""
        Killed.steps += 1
        if Killed.steps == 4:
            raise RuntimeError("killed")
        return super().forward(*arguments, **more)


@pytest.mark.parametrize("adapter", [None, "lora"])
def test_a_killed_training_is_resumed_by_the_same_call(
    tmp_path: Path, backbone: str, machine: Machine, adapter: str | None
) -> None:
    """It ends with the weights of an uninterrupted training; other settings are refused."""
    examples = [(TEXTS[n], TEXTS[n + 1], TEXTS[n + 2]) for n in range(8)]
    Killed.steps = 0

    def train(model: Model, folder: Path, learning_rate: float = 1e-3, **more: Any) -> None:
        fit(
            model,
            Killed(),
            examples,
            steps=6,
            learning_rate=learning_rate,
            batch_size=4,
            folder=folder,
            adapter=None if adapter is None else component("adapter", adapter),
            machine=machine,
            **more,
        )

    killed = new_model("sbert", backbone=backbone)
    names = set(killed.state_dict())
    with pytest.raises(RuntimeError, match="killed"):
        train(killed, tmp_path / "a")
    assert set(killed.state_dict()) == names
    with pytest.raises(UserError, match="with other settings"):
        train(new_model("sbert", backbone=backbone), tmp_path / "a", learning_rate=2e-3)
    with pytest.raises(UserError, match="with other settings"):
        train(new_model("sbert", backbone=backbone, pooling="cls"), tmp_path / "a")
    for others in (
        {"schedule": component("schedule", "constant")},
        {"optimizer": component("optimizer", weight_decay=0.3)},
        {"documents": [*TEXTS, "another text"]},
        {"documents": TEXTS, "dev": open_topics({"q": "another query"}, {"q": ["0"]})},
    ):
        with pytest.raises(UserError, match="with other settings"):
            train(new_model("sbert", backbone=backbone), tmp_path / "a", 1e-3, **others)
    train(new_model("sbert", backbone=backbone) if adapter is None else killed, tmp_path / "a")
    assert Killed.steps == 4 + 4  # four until it is killed, four from the checkpoint of step 2
    train(new_model("sbert", backbone=backbone), tmp_path / "b")
    weights = [load(tmp_path / name).state_dict() for name in ("a", "b")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_an_adapter_is_merged_after_training(backbone: str, machine: Machine) -> None:
    """The model has its original parameters again, with changed values."""
    model = new_model("sbert", backbone=backbone)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    adapter = component("adapter", "lora")
    examples = [(text, text) for text in TEXTS]
    fit(model, InfoNCE(), examples, steps=2, learning_rate=1e-2, batch_size=4, adapter=adapter, machine=machine)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert any(not torch.equal(after[key], before[key]) for key in after)


def test_rows_are_compared_with_a_baseline(topics: Topics) -> None:
    """The table's values are the measured ones; a notebook shows it as Markdown."""
    good = evaluate([ScoredDoc("q1", "3", 1.0), ScoredDoc("q2", "7", 1.0)], topics, ["RR@10"])
    poor = evaluate([ScoredDoc("q1", "1", 1.0), ScoredDoc("q2", "7", 1.0)], QRELS, ["RR@10"])
    table = compare({"poor": poor, "good": good}, baseline="good")
    assert [cell.value for (cell,) in table.cells] == [0.5, 1.0]
    assert "than good" in table.footer
    assert str(table) == table._repr_markdown_() == table.to_markdown()


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path, backbone: str, machine: Machine) -> None:
    """Neither an index nor a checkpoint overwrites the user's files."""
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UserError, match="not an empty folder"):
        build_index(TEXTS, tmp_path, machine=machine)
    with pytest.raises(UserError, match="not an empty folder"):
        fit(new_model(backbone=backbone), InfoNCE(), [("a", "b")], steps=1, learning_rate=1e-3, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("group", "option"),
    [
        (folder.name, file.stem)
        for folder in sorted((Path(irexp.__file__).parents[1] / "conf").iterdir())
        if folder.name in ("index", "loss", "regularizer", "optimizer", "schedule", "training", "machine", "search")
        for file in sorted(folder.glob("*.yaml"))
        if file.stem not in ("none", "seismic", "faiss")
    ],
)
def test_every_option_can_be_built(group: str, option: str) -> None:
    """Each file of these groups gives an object without further settings."""
    found = component(group, option)
    assert found is not None
    assert not isinstance(found, dict)


def test_every_public_name_can_be_imported() -> None:
    """A misspelt name is an AttributeError."""
    assert all(callable(getattr(irexp, name)) for name in irexp.__all__)
    with pytest.raises(AttributeError, match="irexp"):
        irexp.serach  # noqa: B018


def test_a_saved_model_scores_the_same(tmp_path: Path, backbone: str) -> None:
    """Also, the seed alone decides the weights that the backbone lacks."""
    first, second = (new_model("colbert", backbone=backbone, seed=seed) for seed in (1, 1))
    other = new_model("colbert", backbone=backbone, seed=2)
    assert torch.equal(first.score("list", TEXTS), second.score("list", TEXTS))
    assert not torch.equal(first.score("list", TEXTS), other.score("list", TEXTS))
    save(first, tmp_path / "model")
    torch.testing.assert_close(load(tmp_path / "model").score("list", TEXTS), first.score("list", TEXTS))
