"""GradCache (Gao et al. 2021, arXiv:2101.06983): a batch larger than memory, with the gradients of the whole batch.

The texts are encoded a chunk at a time, and of each chunk only the embeddings are kept. The loss is computed on all
embeddings. The backward pass then encodes one chunk after the other again, with the random numbers of the first time,
and passes the embeddings' gradients on to the weights. So activations take the memory of one chunk, for the time of a
second forward pass.

Each chunk is a checkpoint of torch's autograd: it has the weights' gradients summed before they are used, so that
several processes still average them once per step.

Shapes: B texts, L tokens, H dimensions, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from irexp.artifact.hardware import return_freed_memory
from irexp.model.batching import token_budget_batches
from irexp.model.bi_encoder import Encoded
from irexp.types import Embeddings, TokenEmbeddings, Tokens

Result = TypeVar("Result", Tensor, Encoded)

#: Rows of texts, or queries with their rows.
Group = TypeVar("Group")


def encode_in_chunks(
    encode: Callable[[Tokens], Encoded],
    tokens: Tokens,
    size: int | None,
    *,
    budget: int | None = None,
    agree: Callable[[int], int] = int,
) -> Encoded:
    """The embeddings of a batch of texts.

    Args:
        encode: a model's `encode_queries` or `encode_documents`.
        tokens: the batch.
        size: texts per forward pass, of similar length, that are encoded twice; None encodes each text once.
        budget: without a size, tokens per forward pass, of texts of similar length, so that they are padded less; None
            encodes the whole batch at once.
        agree: how many forward passes to run instead of that number, because other processes need more; the last one is
            repeated, and the results of its repetitions are not used.
    """
    if size is None and budget is None:
        return encode(tokens)
    length_B = _lengths(tokens)
    compute: Callable[[Tokens], Encoded] = encode
    if size is not None:
        groups = torch.split(length_B.argsort(stable=True), size)
        compute = partial(_recomputed, encode)
    else:
        assert budget is not None
        groups = _groups(length_B, budget)
    passes = agree(len(groups))
    if size is not None and passes == 1:
        return encode(tokens)
    parts = [compute(_take(tokens, rows, int(length_B[rows].max()))) for rows in _repeated(groups, passes)]
    if size is not None and length_B.device.type == "cpu":
        return_freed_memory()  # of the passes, before the scores of the whole batch take as much
    return _in_order(parts, torch.cat(groups).argsort())


def _groups(length_B: Tensor, budget: int) -> tuple[Tensor, ...]:
    """The rows of texts of similar length, in groups whose padded size fits a budget."""
    batches = token_budget_batches(length_B.tolist(), budget)
    return tuple(torch.tensor(batch, device=length_B.device) for batch in batches)


def _repeated(groups: Sequence[Group], passes: int) -> list[Group]:
    """The groups, with the last one again until there are as many as wanted."""
    return [*groups, *[groups[-1]] * (passes - len(groups))]


def score_in_chunks(
    score: Callable[[Tokens, Sequence[int]], Tensor],
    pairs: Tokens,
    sizes: Sequence[int],
    size: int | None,
    *,
    budget: int | None = None,
    agree: Callable[[int], int] = int,
) -> Tensor:
    """score_P of a batch of pairs; the pairs of a query stay together.

    Args:
        score: a model's `score_pairs`.
        pairs: the batch.
        sizes: the number of pairs per query.
        size: pairs per forward pass, or those of one query if they are more, that are scored twice; None scores each
            pair once.
        budget: without a size, tokens per forward pass, of pairs of similar length; None for the whole batch at once.
            A listwise model must have none.
        agree: as in `encode_in_chunks`.
    """
    if size is None and budget is None:
        return score(pairs, sizes)
    length_P = _lengths(pairs)
    if size is None:
        assert budget is not None
        groups = _groups(length_P, budget)
        parts = [
            score(_take(pairs, rows, int(length_P[rows].max())), [1] * len(rows))
            for rows in _repeated(groups, agree(len(groups)))
        ]
        return torch.cat(parts)[torch.cat(groups).argsort()]
    queries: list[list[int]] = [[]]
    for count in sizes:
        if queries[-1] and sum(queries[-1]) + count > size:
            queries.append([])
        queries[-1].append(count)
    passes = agree(len(queries))
    if passes == 1:
        return score(pairs, sizes)
    rows_of = torch.split(torch.arange(sum(sizes), device=length_P.device), [sum(group) for group in queries])
    scores = []
    for group, rows in _repeated(list(zip(queries, rows_of, strict=True)), passes):
        chunk = _take(pairs, rows, int(length_P[rows].max()))
        scores.append(_recomputed(partial(_score_group, score, group), chunk))
    return torch.cat(scores)[: sum(sizes)]


def _score_group(score: Callable[[Tokens, Sequence[int]], Tensor], sizes: Sequence[int], pairs: Tokens) -> Tensor:
    return score(pairs, sizes)


def _recomputed(compute: Callable[[Tokens], Result], tokens: Tokens) -> Result:
    """A chunk's result, whose activations the backward pass computes again."""

    def run(ids_BL: Tensor, attention_BL: Tensor, pooling_BL: Tensor, types_BL: Tensor | None) -> Result:
        return compute(Tokens(ids_BL, attention_BL, pooling_BL, types_BL))

    parts = (tokens.input_ids_BL, tokens.attention_mask_BL, tokens.pooling_mask_BL, tokens.type_ids_BL)
    with set_checkpoint_early_stop(False):  # or the hooks of sharded layers would see no end of the second pass
        result: Result = checkpoint(run, *parts, use_reentrant=False)
    return result


def _lengths(tokens: Tokens) -> Tensor:
    """length_B: the position after the last token that a model reads or pools."""
    is_used_BL = tokens.attention_mask_BL.bool() | tokens.pooling_mask_BL.bool()
    position_L = torch.arange(1, is_used_BL.shape[1] + 1, device=is_used_BL.device)
    return (is_used_BL * position_L).amax(dim=1).clamp(min=1)


def _take(tokens: Tokens, rows: Tensor, length: int) -> Tokens:
    """Some texts, without the columns that are padding for all of them."""
    return Tokens(
        tokens.input_ids_BL[rows, :length],
        tokens.attention_mask_BL[rows, :length],
        tokens.pooling_mask_BL[rows, :length],
        None if tokens.type_ids_BL is None else tokens.type_ids_BL[rows, :length],
    )


def _in_order(parts: list[Encoded], order_B: Tensor) -> Encoded:
    """The embeddings of chunks as one batch, whose row i is row `order_B[i]` of the chunks' rows."""
    if isinstance(parts[0], Embeddings):
        joined_BH = torch.cat([part.vectors_BH for part in parts if isinstance(part, Embeddings)])
        return Embeddings(joined_BH[order_B])
    texts = [part for part in parts if isinstance(part, TokenEmbeddings)]
    widest = max(part.mask_BL.shape[1] for part in texts)
    missing = [widest - part.mask_BL.shape[1] for part in texts]
    ids = [part.token_ids_BL for part in texts]
    return TokenEmbeddings(
        torch.cat([pad(p.vectors_BLH, (0, 0, 0, more)) for p, more in zip(texts, missing, strict=True)])[order_B],
        torch.cat([pad(p.mask_BL, (0, more)) for p, more in zip(texts, missing, strict=True)])[order_B],
        None
        if ids[0] is None
        else torch.cat([pad(i, (0, more)) for i, more in zip(ids, missing, strict=True) if i is not None])[order_B],
    )
