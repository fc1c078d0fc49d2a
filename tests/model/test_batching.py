"""Batches by a token budget: every text once, and smaller batches if a GPU's memory is too small."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.batching import TokenBudget, token_budget_batches
from irexp.model.bi_encoder import to_csr
from irexp.model.dense import DenseBiEncoder
from irexp.model.device import budget_of, forward_budget_of
from irexp.model.mono import Mono
from irexp.model.set_encoder import SetEncoder
from irexp.types import Tokens, UserError
from tests import tiny

LENGTHS = [3, 9, 4, 8, 2, 7, 9, 1]


class SmallMemory:
    """A simulated GPU whose memory holds a fixed number of tokens."""

    def __init__(self, tokens: int) -> None:
        """Set the capacity; `read` counts batches."""
        self._tokens, self.read = tokens, 0

    def check(self, tokens: int) -> None:
        """Count a batch, or fail as torch does if it is too large."""
        if tokens > self._tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.read += 1


def test_every_text_is_in_one_batch_and_no_batch_exceeds_the_budget() -> None:
    """A batch's size includes padding: its number of texts times its longest text."""
    batches = token_budget_batches(LENGTHS, 16)
    assert sorted(position for batch in batches for position in batch) == list(range(8))
    assert all(len(batch) * max(LENGTHS[p] for p in batch) <= 16 for batch in batches)
    assert len(batches) < 8


@pytest.mark.parametrize("workers", [2, 3, 16])
def test_batches_in_threads_give_the_results_of_one_after_the_other(workers: int) -> None:
    """In the same order, each computed with one thread of torch and without gradients; this thread keeps its own."""
    torch.set_num_threads(2)
    weight = torch.ones(3, requires_grad=True)

    def work(batch: list[int]) -> tuple[list[int], int, bool]:
        return [LENGTHS[position] for position in batch], torch.get_num_threads(), (weight * 2).requires_grad

    expected = token_budget_batches(LENGTHS, 9)
    found = list(TokenBudget(9, workers=workers).map_batches(LENGTHS, work))
    assert [batch for batch, _ in found] == expected
    assert [result for _, result in found] == [([LENGTHS[p] for p in batch], 1, False) for batch in expected]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_in_threads_are_computed_under_the_autocast_of_the_caller(workers: int) -> None:
    """Whoever wraps a call in torch.autocast gets its precision, however many threads there are."""
    left, right = torch.ones(2, 2), torch.ones(2, 2)
    budget = TokenBudget(9, workers=workers)
    with torch.autocast("cpu", torch.bfloat16):
        found = [result.dtype for _, result in budget.map_batches(LENGTHS, lambda _: left @ right)]
    found += [result.dtype for _, result in budget.map_batches([1], lambda _: left @ right)]
    assert found == [*[torch.bfloat16] * (len(found) - 1), torch.float32]


def test_an_error_in_a_thread_ends_the_work() -> None:
    """The error reaches the caller, after the results of the batches before; most later batches are not computed."""
    begun: list[int] = []

    def work(batch: list[int]) -> int:
        begun.append(batch[0])
        if batch[0] == 3:
            raise ValueError("batch 3")
        return batch[0]

    found = []
    with pytest.raises(ValueError, match="batch 3"):
        for _, number in TokenBudget(1, workers=2).map_batches([1] * 50, work):
            found.append(number)
    assert found == [0, 1, 2]
    assert len(begun) < 10


def test_the_budget_of_a_gpu_follows_its_memory(
    backbones: dict[str, HuggingFaceBackbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the largest that paid, however wide the model; a given number stands, and two batches are in progress."""
    for gib, tokens in ((8, 16_384), (24, 49_152), (80, 131_072), (140, 131_072)):
        properties = SimpleNamespace(total_memory=gib * 2**30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, found=properties: found)
        assert budget_of(torch.device("cuda"), 384) == budget_of(torch.device("cuda"), 4096) == tokens
    model = DenseBiEncoder(backbones["encoder"], query_length=8, document_length=16)
    given = TokenBudget.of(model, torch.device("cuda"), 100, workers=8)
    assert (given.tokens, given.workers) == (100, 2)


def test_the_budget_of_a_processor_follows_the_width_of_the_model(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """A layer's values stay in the cache of a core, within bounds; there are as many workers as torch has threads."""
    for width, tokens in ((128, 2048), (384, 853), (768, 640), (4096, 640)):
        assert budget_of(torch.device("cpu"), width) == tokens
    torch.set_num_threads(2)
    model = DenseBiEncoder(backbones["encoder"], query_length=8, document_length=16)
    own = TokenBudget.of(model, torch.device("cpu"))
    assert (own.tokens, own.workers) == (2048, 2)


def test_only_wide_models_are_trained_in_forward_passes_of_few_tokens() -> None:
    """And only on a processor, where less padding is worth more than fewer passes."""
    cpu = torch.device("cpu")
    assert [forward_budget_of(cpu, width) for width in (128, 384, 768)] == [None, 853, 640]
    assert forward_budget_of(torch.device("cuda"), 768) is None


def test_out_of_memory_halves_the_budget_for_good(caplog: pytest.LogCaptureFixture) -> None:
    """Every text is processed once; each halving logs one line; later calls start with the reduced budget."""
    memory, budget = SmallMemory(20), TokenBudget(72)

    def work(batch: list[int]) -> list[int]:
        memory.check(len(batch) * max(LENGTHS[position] for position in batch))
        return [LENGTHS[position] for position in batch]

    with caplog.at_level(logging.WARNING):
        done = list(budget.map_batches(LENGTHS, work))
    assert sorted(position for batch, _ in done for position in batch) == list(range(8))
    assert all(lengths == [LENGTHS[position] for position in batch] for batch, lengths in done)
    assert budget.tokens <= 20
    halvings = len(caplog.records)
    assert 1 <= halvings <= 3
    assert f"continuing with {budget.tokens} tokens" in caplog.text
    assert sorted(position for batch, _ in budget.map_batches(LENGTHS, work) for position in batch) == list(range(8))
    assert len(caplog.records) == halvings


def test_out_of_memory_on_a_single_text_says_what_to_lower() -> None:
    """A batch of one text cannot be halved: the error names the setting."""

    def work(batch: list[int]) -> None:
        SmallMemory(8).check(len(batch) * max(LENGTHS[position] for position in batch))

    with pytest.raises(UserError, match=r"a single text of 9 tokens; lower dataset\.document_length"):
        list(TokenBudget(72).map_batches(LENGTHS, work))


def test_sparse_vectors_are_those_that_scipy_reads_from_the_whole_matrix() -> None:
    """With the same types, also with rows of zeros, negative values, and no rows."""
    vector_BH = torch.tensor([[0.0, 2.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.5]])
    for part_BH in (vector_BH, vector_BH[1:2], vector_BH[:0]):
        expected, found = scipy.sparse.csr_array(part_BH.numpy()), to_csr(part_BH)
        assert found.shape == expected.shape
        for name in ("data", "indices", "indptr"):
            own, theirs = getattr(found, name), getattr(expected, name)
            assert own.dtype == theirs.dtype and own.tolist() == theirs.tolist(), name


@pytest.mark.parametrize("kind", ["dense", "mono"])
def test_a_model_stays_within_its_budget_and_the_memory(
    backbones: dict[str, HuggingFaceBackbone], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Small batches give the embeddings and scores of one large batch, up to rounding."""
    memory = SmallMemory(30)
    lengths: dict[str, Any] = {"query_length": 8, "document_length": 16}
    model: Any = (DenseBiEncoder if kind == "dense" else Mono)(backbones["encoder"], **lengths).eval()
    name = "encode_documents" if kind == "dense" else "score_pairs"
    read = getattr(model, name)

    def embed(budget: int) -> Any:
        if kind == "dense":
            return model.embed_documents(tiny.DOCUMENTS, budget=TokenBudget(budget))
        return model.score_lists([(tiny.QUERIES[0], tiny.DOCUMENTS)], budget=TokenBudget(budget))[0].numpy()

    def checked(tokens: Tokens, *arguments: Any) -> Any:
        memory.check(tokens.input_ids_BL.numel())
        return read(tokens, *arguments)

    expected = embed(10_000)
    monkeypatch.setattr(model, name, checked)
    for budget in (30, 10_000):  # the first fits into memory, the second must be halved until it does
        memory.read = 0
        np.testing.assert_allclose(embed(budget), expected, atol=1e-5)
        assert memory.read > 1


def test_out_of_memory_on_a_list_says_what_to_lower(
    backbones: dict[str, HuggingFaceBackbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listwise model cannot split a list: the error names re_rank.depth."""
    model = SetEncoder(backbones["encoder"], query_length=8, document_length=16).eval()

    def fails(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "score_pairs", fails)
    with pytest.raises(UserError, match=r"a list of 4 documents in one batch; lower re_rank\.depth"):
        model.score(tiny.QUERIES[0], tiny.DOCUMENTS)
