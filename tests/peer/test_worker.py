"""In its own environment each library computes what irexp does."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irexp import component, new_model, open_documents, open_examples, save
from irexp.peer.data import write_batches
from irexp.peer.prepare import make_training
from irexp.peer.work import Work
from irexp.peer.worker import answer, peak_memory
from irexp.types import UserError
from tests import tiny


def settings() -> dict[str, dict[str, object]]:
    """Those of irexp."""
    names = ("encoding", "re_rank")
    return {"machine": asdict(component("machine", "cpu")), **{name: asdict(component(name)) for name in names}}


@pytest.mark.parametrize(("task", "model"), [("encode", "sbert"), ("encode", "colbert"), ("re_rank", "mono")])
def test_the_workers_of_irexp_and_sentence_transformers_agree(tmp_path: Path, task: str, model: str) -> None:
    """One text after the other, in the order of the file; the seconds are those of the computation."""
    save(new_model(model, backbone=str(tiny.bert(tmp_path / "bert"))), tmp_path / "model")
    texts = [*tiny.DOCUMENTS, "list all buckets"]
    given = texts if task == "encode" else [[tiny.QUERIES[0], text] for text in texts]
    (tmp_path / "given.json").write_text(json.dumps(given))
    results = {}
    for library in ("irexp", "sentence_transformers"):
        path = tmp_path / f"{library}.npy"
        files = (str(tmp_path / "model"), str(tmp_path / "given.json"))
        found = answer(library, asdict(Work(task, model, *files, 32, 64, 1, "cpu", settings(), str(path))))
        assert found.keys() == {"cpu_seconds", "wall_seconds", "mib"}
        results[library] = np.load(path)
    assert len(results["irexp"]) >= len(texts)
    np.testing.assert_allclose(results["irexp"], results["sentence_transformers"], atol=1e-5)


def test_a_training_is_timed_by_its_steps_and_tells_the_loss_before(collection: Path, tmp_path: Path) -> None:
    """The loss of a model of no use is about log 2 with two documents per query; settings reach irexp's training."""
    (collection / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td0\t1\nq2\td4\t1\n")
    model = new_model("sbert", backbone=str(tiny.bert(tmp_path / "bert")))
    save(model, tmp_path / "model")
    examples, documents = open_examples(collection), open_documents(collection)
    sizes: Any = {"steps": 3, "batch_size": 2, "seed": 1}
    write_batches(tmp_path / "data", examples, documents, model, **sizes)
    lengths = (model.query_length, model.document_length)
    rates: Any = {"temperature": 1.0, "learning_rate": 1e-3}
    training = make_training("sbert", tmp_path / "model", tmp_path / "data", lengths=lengths, **rates, **sizes)
    found = answer("irexp", {"task": "fit", "training": asdict(training), "folder": str(tmp_path / "trained")})
    assert found["cpu_seconds"] > 0 and found["wall_seconds"] > 0
    assert found["probe_loss"] == pytest.approx(np.log(2), abs=0.5)
    assert (tmp_path / "trained" / "modules.json").is_file()
    unknown = asdict(replace(training, settings={"machine": {"forward_token": 64}}))
    with pytest.raises(UserError, match="did you mean forward_tokens"):
        answer("irexp", {"task": "fit", "training": unknown, "folder": str(tmp_path / "again")})


def test_the_peak_memory_grows_with_what_is_held() -> None:
    """In MiB, and at least what is held now."""
    before = peak_memory()
    held = np.ones(2**26, np.uint8)
    assert peak_memory() >= before
    assert peak_memory() > held.nbytes // 2**20
