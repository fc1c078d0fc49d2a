"""MaxSim in training and in search, on numbers that can be checked by eye."""

from __future__ import annotations

import numpy as np
import torch

from irexp.index.compare import compare
from irexp.index.vectors import TokenVectors
from irexp.model.maxsim import maxsim
from irexp.types import TokenEmbeddings


def embeddings(values: list[list[float]], ids: list[list[int]], mask: list[list[int]]) -> TokenEmbeddings:
    """Token vectors of one dimension."""
    return TokenEmbeddings(torch.tensor(values)[:, :, None], torch.tensor(mask), torch.tensor(ids))


def vectors(tokens: TokenEmbeddings) -> TokenVectors:
    """The same embeddings in the stored format."""
    assert tokens.token_ids_BL is not None
    kept = tokens.mask_BL.bool()
    starts = np.concatenate([[0], tokens.mask_BL.sum(dim=1).cumsum(dim=0).numpy()])
    return TokenVectors(tokens.vectors_BLH[kept].numpy(), starts, tokens.token_ids_BL[kept].numpy().astype(np.int32))


def test_a_negative_match_counts_for_a_cls_piece_but_not_for_a_word() -> None:
    """COIL: id -1 is a piece of the [CLS] vector, 7 and 8 are words; masked tokens match nothing.

    Document 0: piece 2 * -3 = -6; word 7 max(1 * -1, 1 * 4) = 4; word 8 has no match; sum -2.
    Document 1: piece 2 * 1 = 2; word 7 max(0, 1 * -5) = 0; word 8 is masked; sum 2.
    """
    query = embeddings([[2.0, 1.0, 1.0]], [[-1, 7, 8]], [[1, 1, 1]])
    document = embeddings([[-3.0, -1.0, 4.0], [1.0, -5.0, 9.0]], [[-1, 7, 7], [-1, 7, 8]], [[1, 1, 1], [1, 1, 0]])
    assert maxsim(query, document).tolist() == [[-2.0, 2.0]]
    assert compare(vectors(query), vectors(document)).tolist() == [[-2.0, 2.0]]
