"""In its own environment each library computes what irexp does."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from irexp import component, new_model, save
from irexp.peer.work import Work
from irexp.peer.worker import answer, peak_memory
from tests import tiny


def settings() -> dict[str, dict[str, object]]:
    """Those of irexp."""
    return {"machine": asdict(component("machine", "cpu")), "encoding": asdict(component("encoding"))}


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
        found = answer(library, asdict(Work(task, model, *files, 32, 64, 1, settings(), str(path))))
        assert found.keys() == {"cpu_seconds", "wall_seconds", "mib"}
        results[library] = np.load(path)
    assert len(results["irexp"]) >= len(texts)
    np.testing.assert_allclose(results["irexp"], results["sentence_transformers"], atol=1e-5)


def test_the_peak_memory_grows_with_what_is_held() -> None:
    """In MiB, and at least what is held now."""
    before = peak_memory()
    held = np.ones(2**26, np.uint8)
    assert peak_memory() >= before
    assert peak_memory() > held.nbytes // 2**20
