"""Encoding in chunks: the gradients of the whole batch, with the memory of a chunk."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.loss.info_nce import InfoNCE
from irexp.loss.loss import Loss
from irexp.loss.margin_mse import MarginMSE
from irexp.model import maxsim
from irexp.model.bi_encoder import BiEncoder, Encoded
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.regularizer.flops import FLOPS
from irexp.training.grad_cache import encode_in_chunks, score_in_chunks
from irexp.types import Embeddings, Tokens
from tests import families, tiny

#: Texts of different lengths, so that chunks are padded less than the batch.
QUERIES = [" ".join(tiny.DOCUMENTS[i % len(tiny.DOCUMENTS)].split()[: i + 1]) for i in range(5)]
DOCUMENTS = [*tiny.DOCUMENTS, *(f"{text} {tiny.QUERIES[0]}" for text in tiny.DOCUMENTS)]


def families_of(kind: Any, backbones: dict[str, HuggingFaceBackbone]) -> dict[str, Model]:
    """A model of each family and setting, seeded."""
    found = {}
    for name, make in families.MAKE.items():
        torch.manual_seed(3)
        model = make(backbones)
        if isinstance(model, kind):
            found[name] = model
    return found


def set_dropout(model: Model, probability: float) -> None:
    """Change every dropout, whether it is a module or a number that an attention layer reads."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
        for name in ("dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, probability)


def loss_of(model: BiEncoder, loss: Loss, size: int | None, budget: int | None = None, *, more: int = 0) -> Tensor:
    """The loss and a penalty of a step, encoded in chunks of `size`, or of `budget` tokens, and in `more` passes."""
    options: dict[str, Any] = {"budget": budget, "agree": partial(operator.add, more)}
    query_tokens = model.pad(model.tokenize_queries(QUERIES), is_query=True)
    document_tokens = model.pad(model.tokenize_documents(DOCUMENTS), is_query=False)
    queries = encode_in_chunks(model.encode_queries, query_tokens, size, **options)
    documents = encode_in_chunks(model.encode_documents, document_tokens, size, **options)
    target_BN = torch.linspace(0, 1, len(QUERIES) * len(DOCUMENTS)).view(len(QUERIES), -1)
    total = torch.stack([loss(score_BN, target_BN) for score_BN in model.similarity(queries, documents)]).mean()
    if isinstance(queries, Embeddings) and isinstance(documents, Embeddings):
        penalty = FLOPS(query_weight=0.1, document_weight=0.2)
        total = total + penalty(queries.vectors_BH, documents.vectors_BH, step=1, steps=1)
    return total


def pairs_loss(model: CrossEncoder, size: int | None, budget: int | None = None, *, more: int = 0) -> Tensor:
    """A weighted sum of the scores of four queries' pairs, scored in chunks of at most `size` if that is possible."""
    tokens = model.pad(model.tokenize_pairs([QUERIES[i % len(QUERIES)] for i in range(8)], DOCUMENTS[:8]))
    score_P = score_in_chunks(
        model.score_pairs, tokens, [2, 1, 3, 2], size, budget=budget, agree=partial(operator.add, more)
    )
    return (score_P * torch.linspace(-1, 1, 8)).sum()


def gradients(model: Model, loss: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and the gradient of each weight that has one."""
    model.zero_grad()
    torch.manual_seed(5)
    value = loss()
    torch.autograd.backward(value)
    named = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return value.detach(), named


def assert_same(found: tuple[Tensor, dict[str, Tensor]], expected: tuple[Tensor, dict[str, Tensor]]) -> None:
    """Compare, relative to the largest gradient, since other matrix shapes are summed in another order."""
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    assert found[1].keys() == expected[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in expected[1].values())
    assert largest > 0
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).abs().max()) <= 1e-5 * largest, name


@pytest.mark.parametrize("loss", [InfoNCE(), MarginMSE()], ids=["InfoNCE", "MarginMSE"])
def test_the_gradients_of_every_bi_encoder_are_those_of_the_whole_batch(
    backbones: dict[str, HuggingFaceBackbone], loss: Loss
) -> None:
    """Loss and gradients agree to 1e-5, with an in-batch and a list loss and a penalty, for chunks of 2 texts."""
    models = families_of(BiEncoder, backbones)
    assert len(models) >= 11
    for model in models.values():
        assert isinstance(model, BiEncoder)
        set_dropout(model.train(), 0.0)
        whole, chunked = (gradients(model, partial(loss_of, model, loss, size)) for size in (None, 2))
        assert_same(chunked, whole)
        assert_same(gradients(model, partial(loss_of, model, loss, None, 24)), whole)
        assert_same(gradients(model, partial(loss_of, model, loss, 2, more=2)), whole)  # that other processes need


def test_the_gradients_of_every_cross_encoder_are_those_of_the_whole_batch(
    backbones: dict[str, HuggingFaceBackbone],
) -> None:
    """The pairs of a query stay in one chunk, as Set-Encoder needs it."""
    models = families_of(CrossEncoder, backbones)
    assert len(models) >= 6
    for model in models.values():
        assert isinstance(model, CrossEncoder)
        set_dropout(model.train(), 0.0)
        whole = gradients(model, partial(pairs_loss, model, None))
        assert_same(gradients(model, partial(pairs_loss, model, 3)), whole)
        assert_same(gradients(model, partial(pairs_loss, model, 3, more=2)), whole)  # passes that other processes need
        if not model.is_listwise:
            assert_same(gradients(model, partial(pairs_loss, model, None, 40)), whole)


def test_texts_of_similar_length_are_padded_less(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """Each text once, in groups within the budget, with fewer tokens in all than the batch; more passes on request."""
    model = families_of(BiEncoder, backbones)["dense_decoder"]
    assert isinstance(model, BiEncoder)
    tokens = model.pad(model.tokenize_documents(DOCUMENTS), is_query=False)
    shapes: list[torch.Size] = []

    def encode(part: Tokens) -> Encoded:
        shapes.append(part.input_ids_BL.shape)
        return model.encode_documents(part)

    encode_in_chunks(encode, tokens, None, budget=24)
    assert len(shapes) >= 2 and sum(texts for texts, _ in shapes) == len(DOCUMENTS)
    assert all(shape.numel() <= 24 or shape[0] == 1 for shape in shapes)
    assert sum(shape.numel() for shape in shapes) < tokens.input_ids_BL.numel()
    passes = len(shapes)
    encode_in_chunks(encode, tokens, None, budget=24, agree=partial(operator.add, 2))
    assert len(shapes) == 2 * passes + 2


def test_dropout_is_that_of_the_first_forward_pass_when_a_chunk_is_encoded_again(
    backbones: dict[str, HuggingFaceBackbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradients equal those of the same chunks whose activations are kept; without dropout they differ."""
    for name in ("colbert", "splade", "dense_decoder"):
        model = families_of(BiEncoder, backbones)[name]
        assert isinstance(model, BiEncoder)
        set_dropout(model.train(), 0.3)
        recomputed = gradients(model, partial(loss_of, model, InfoNCE(), 2))
        with monkeypatch.context() as patch:
            patch.setattr("irexp.training.grad_cache.checkpoint", lambda run, *parts, use_reentrant: run(*parts))
            kept = gradients(model, partial(loss_of, model, InfoNCE(), 2))
        assert_same(recomputed, kept)
        set_dropout(model, 0.0)
        assert not torch.allclose(gradients(model, partial(loss_of, model, InfoNCE(), 2))[0], kept[0])


def test_only_embeddings_are_kept_between_the_forward_and_the_backward_pass(
    backbones: dict[str, HuggingFaceBackbone],
) -> None:
    """Four times as many texts keep less than twice the bytes; without chunks they keep four times as many."""
    model = families_of(BiEncoder, backbones)["dense_decoder"]
    assert isinstance(model, BiEncoder)

    def kept(times: int, size: int | None) -> int:
        tokens = model.pad(model.tokenize_documents(DOCUMENTS[:4] * times), is_query=False)
        storages: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            encoded = encode_in_chunks(model.encode_documents, tokens, size)
        assert isinstance(encoded, Embeddings) and encoded.vectors_BH.requires_grad
        return sum(count for place, count in storages.items() if place not in weights)

    assert kept(8, None) > 3 * kept(2, None)
    assert kept(8, 2) < kept(8, None) / 10


def test_maxsim_in_blocks_has_the_same_scores_and_gradients(
    backbones: dict[str, HuggingFaceBackbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ColBERT, COIL and XTR, with one pair of texts per block, several queries per block, and a single block."""
    for name in ("colbert", "coil", "xtr", "mvr"):
        model = families_of(BiEncoder, backbones)[name]
        assert isinstance(model, BiEncoder)
        set_dropout(model.train(), 0.0)
        found = []
        for values in (1, 3000, 2**25):
            monkeypatch.setattr(maxsim, "BLOCK_VALUES", values)
            found.append(gradients(model, partial(loss_of, model, InfoNCE(), None)))
        assert_same(found[0], found[2])
        assert_same(found[1], found[2])
