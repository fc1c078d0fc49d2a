"""Losses over the documents of a whole batch, and over a document's viewers, against their formulas in loops."""

from __future__ import annotations

import math

import pytest
import torch

from irexp.loss.contrastive_local import ContrastiveLocal
from irexp.loss.score_based_cross_entropy import ScoreBasedInBatchCrossEntropy
from irexp.loss.symmetric_info_nce import SymmetricInfoNCE
from irexp.types import UserError

NAN, INF = math.nan, math.inf
SCORES = [[0.9, 0.1, -0.3, 0.2], [0.2, 0.4, 0.8, -0.1], [0.3, -0.2, 0.6, 0.5]]


def log_share(one: float, all_of_them: list[float], temperature: float) -> float:
    """-log( exp(one / T) / sum of exp(each / T) )."""
    return -math.log(math.exp(one / temperature) / sum(math.exp(each / temperature) for each in all_of_them))


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_symmetric_info_nce_is_its_formula(temperature: float) -> None:
    """Documents of other queries compete for a query, and other queries for its positive, less those it is relevant to.

    Document 0 is also relevant to query 1; document 2 is the positive of queries 1 and 2, which do not compete.
    """
    targets = [[1.0, 0.0, 0.0, 0.0], [NAN, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    rows = [[0, 1, 2, 3], [1, 2, 3], [0, 1, 2, 3]]
    columns = {0: [0, 2], 1: [0, 1], 2: [0, 2]}
    positives = [0, 2, 2]
    losses = []
    for query, positive in enumerate(positives):
        own = SCORES[query][positive]
        losses.append(log_share(own, [SCORES[query][d] for d in rows[query]], temperature) / 2)
        losses.append(log_share(own, [SCORES[other][positive] for other in columns[query]], temperature) / 2)
    found = SymmetricInfoNCE(temperature=temperature)(torch.tensor(SCORES), torch.tensor(targets))
    assert found.item() == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_score_based_in_batch_cross_entropy_is_its_formula() -> None:
    """The best own document is the positive; own ones less than the difference below it are left out."""
    targets = [[5.0, 6.0, 2.0, -INF], [-INF, -INF, 3.0, 0.5], [1.0, -INF, NAN, -INF]]
    expected = [
        log_share(0.1, [0.1, -0.3, 0.2], 1.0),  # 5.0 is 1 below 6.0 and left out
        log_share(0.8, [0.2, 0.4, 0.8], 1.0),  # 0.5 is 2.5 below 3.0, left out
        log_share(0.3, [0.3, -0.2, 0.5], 1.0),
    ]
    found = ScoreBasedInBatchCrossEntropy(min_target_diff=3.0)(torch.tensor(SCORES), torch.tensor(targets))
    assert found.item() == pytest.approx(sum(expected) / 3, rel=1e-5)
    with pytest.raises(UserError, match=r"loss\.min_target_diff=0"):
        ScoreBasedInBatchCrossEntropy(min_target_diff=0.0)


def test_contrastive_local_is_its_formula() -> None:
    """The best viewer's share of all viewers that exist; the temperature counts."""
    targets = torch.tensor([[0.0] * 4, [0.0, 0.0, NAN, 0.0], [0.0] * 4])
    expected = [log_share(0.9, SCORES[0], 0.3), log_share(0.4, [0.2, 0.4, -0.1], 0.3), log_share(0.6, SCORES[2], 0.3)]
    found = ContrastiveLocal(temperature=0.3)(torch.tensor(SCORES), targets)
    assert found.item() == pytest.approx(sum(expected) / 3, rel=1e-5)
