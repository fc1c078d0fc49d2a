"""On a GPU the pipeline computes what it computes on a processor; without one, these tests are skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from irexp import component, encode, new_model, re_rank
from irexp.index.vectors import TokenVectors, Vectors
from irexp.model.batching import TokenBudget
from irexp.model.bi_encoder import BiEncoder
from irexp.model.cross_encoder import CrossEncoder
from irexp.types import ScoredDoc
from tests import tiny

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees")

#: Texts of very different lengths.
TEXTS = [" ".join(tiny.WORDS[6 : 6 + number % 40 + 1]) for number in range(200)]


def values(vectors: Vectors) -> Any:
    """As one array."""
    if isinstance(vectors, TokenVectors):
        return vectors.vectors_TH
    return vectors.toarray() if isinstance(vectors, scipy.sparse.csr_array) else vectors


@pytest.mark.parametrize("name", ["sbert", "splade", "colbert", "coil"])
def test_a_bi_encoder_computes_the_vectors_of_a_processor(folders: dict[str, Path], name: str) -> None:
    """Two batches at a time give exactly the bits of one after the other, and nearly those of a processor."""
    model = new_model(name, backbone=str(folders["encoder"]))
    assert isinstance(model, BiEncoder)
    expected = values(model.embed_documents(TEXTS))
    device = torch.device("cuda")
    model.to(device)
    one, two = (
        values(model.embed_documents(TEXTS, budget=TokenBudget(300, workers=workers, device=device)))
        for workers in (1, 2)
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, expected, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_encoding_is_that_of_a_processor(tmp_path: Path, precision: str) -> None:
    """Whatever the batches; bfloat16 is near."""
    model = new_model("sbert", backbone=str(tiny.bert(tmp_path)))
    found = []
    for machine in (component("machine", "cpu"), component("machine", "gpu", token_budget=300)):
        settings = component("encoding", precision=precision)
        encoding = encode(model, TEXTS, settings=settings, machine=machine)
        found.append(np.concatenate([np.asarray(values(part)) for part in encoding.batches()]))
    np.testing.assert_allclose(found[1], found[0], atol=1e-5 if precision == "float32" else 3e-2)


def test_a_cross_encoder_computes_the_scores_of_a_processor(tmp_path: Path) -> None:
    """Two batches at a time, in the order of the texts."""
    model = new_model("mono", backbone=str(tiny.bert(tmp_path)))
    assert isinstance(model, CrossEncoder)
    expected = model.score(tiny.QUERIES[0], TEXTS)
    model.to("cuda")
    torch.testing.assert_close(model.score(tiny.QUERIES[0], TEXTS), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("option", ["mono", "set_encoder", "sbert"])
def test_a_re_ranking_in_bfloat16_is_near_that_of_a_processor(tmp_path: Path, option: str) -> None:
    """Two batches at a time."""
    model = new_model(option, backbone=str(tiny.bert(tmp_path)))
    run = [ScoredDoc("0", str(number), -float(number)) for number in range(len(TEXTS))]
    found = []
    for name, precision in (("cpu", "float32"), ("gpu", "bfloat16")):
        machine = component("machine", name, token_budget=300)
        lines = re_rank(model, run, {"0": "list all"}, TEXTS, depth=len(run), precision=precision, machine=machine)
        found.append([line.score for line in sorted(lines, key=lambda line: line.doc_id)])
    np.testing.assert_allclose(found[1], found[0], atol=0.05 * np.abs(found[0]).max())


def test_a_batch_that_is_too_large_for_the_memory_is_halved(tmp_path: Path) -> None:
    """Two batches at a time, too; the vectors are those of small batches."""
    model = new_model("sbert", backbone=str(tiny.bert(tmp_path)))
    assert isinstance(model, BiEncoder)
    device = torch.device("cuda")
    model.to(device)
    texts = TEXTS * 400
    expected = model.embed_documents(texts, budget=TokenBudget(8192, device=device))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.005)
    try:
        budget = TokenBudget(10_000_000, workers=2, device=device)
        found = model.embed_documents(texts, budget=budget)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert budget.tokens < 10_000_000
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-5)
