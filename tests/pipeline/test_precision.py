"""Each `encoding.precision` gives nearly the scores of fp32 for each kind of model, and leaves the model unchanged."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from irexp import build_index, encode, new_model, search
from irexp.config.schema import Encoding, Machine
from irexp.model.model import Model
from irexp.pipeline.component import component
from irexp.pipeline.machine import check_precision
from tests.chains import TEXTS


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
@pytest.mark.parametrize("option", ["sbert", "dpr", "splade", "colbert", "coil"])
def test_a_search_finds_nearly_the_scores_of_fp32(option: str, precision: str, folders: dict[str, Path]) -> None:
    """They differ, but by little, and at least ten of twelve queries have the same best document."""
    torch.manual_seed(0)
    machine = component("machine", accelerator="cpu", progress=False)
    model = new_model(option, backbone=str(folders["encoder"]))
    before = model.score(TEXTS[0], TEXTS)
    exact_QN, rounded_QN = (
        scores(model, component("encoding", precision=name), machine).reshape(len(TEXTS), len(TEXTS))
        for name in ("float32", precision)
    )
    deviation = np.abs(rounded_QN - exact_QN).max()
    assert 0 < deviation < 0.1 * np.abs(exact_QN).max()
    assert np.corrcoef(exact_QN.ravel(), rounded_QN.ravel())[0, 1] > 0.98
    assert (exact_QN.argmax(axis=1) == rounded_QN.argmax(axis=1)).sum() >= 10
    assert model.score(TEXTS[0], TEXTS).tolist() == before.tolist()


def scores(model: Model, encoding: Encoding, machine: Machine) -> NDArray[np.float64]:
    """The scores of each text as a query with each text as a document, in their order."""
    index = build_index(encode(model, TEXTS, settings=encoding, machine=machine), machine=machine)
    found = search(index, TEXTS, model=model, depth=len(TEXTS), machine=machine)
    score_of = {(line.query_id, line.doc_id): line.score for line in found}
    return np.array(
        [score_of[str(query), str(document)] for query in range(len(TEXTS)) for document in range(len(TEXTS))]
    )


@pytest.mark.parametrize("has_instructions", [True, False])
def test_bfloat16_without_instructions_for_it_is_warned_of(
    has_instructions: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs, but is much slower than fp32; on a GPU and on other processors there is nothing to say."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_instructions)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for device in ("cpu", "cuda"):
        check_precision("bf16-mixed", torch.device(device))
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (not has_instructions)
    assert all(
        "training.precision=bf16-mixed: this processor has no" in line and "32-true" in line for line in warnings
    )
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    check_precision("bf16-mixed", torch.device("cpu"))
    assert len(caplog.records) == len(warnings)
