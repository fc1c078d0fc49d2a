"""Documents that may be relevant although nobody judged them, which are left out as negatives.

    d is left out for q if  s(q, d) > s(q, d+) + margin + relative_margin |s(q, d+)|

s is the score of a guide, a frozen model (GIST, Solatorio 2024, arXiv:2402.16829), or the trained model's own (Qwen3
Embedding, arXiv:2506.05176). Documents with the text of a relevant one are found by the batch, without a score.

Shapes: B queries, N documents of the whole batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from irexp.config.schema import FalseNegatives
from irexp.model.bi_encoder import BiEncoder
from irexp.model.model import Model
from irexp.types import Document, UserError


def compares_scores(settings: FalseNegatives) -> bool:
    """Whether scores decide what is left out."""
    return settings.guide is not None or settings.margin is not None or settings.relative_margin is not None


def check_guide(guide: Model | None, settings: FalseNegatives) -> BiEncoder | None:
    """The guide, if there is one.

    Raises:
        UserError: if it does not embed texts.
    """
    if guide is not None and not isinstance(guide, BiEncoder):
        raise UserError(
            f"false_negatives.guide={settings.guide}: it scores every query with every document of the batch, which "
            f"needs a bi-encoder, and {guide.name} is a cross-encoder"
        )
    return guide


def without_false_negatives(
    score_BN: Tensor, target_BN: Tensor, settings: FalseNegatives, positive_B1: Tensor | None = None
) -> Tensor:
    """target_BN, with NaN for the negatives whose score is too high.

    Args:
        score_BN: of the guide, or the model's own.
        target_BN: largest for the positive; NaN leaves a document out.
        settings: the margins; without any the margin is 0.
        positive_B1: the columns of the positives; None for those with the largest target, which are always kept.
    """
    largest_B1 = target_BN.masked_fill(target_BN.isnan(), -torch.inf).argmax(dim=1, keepdim=True)
    positive_B1 = largest_B1 if positive_B1 is None else positive_B1
    best_B1 = score_BN.gather(1, positive_B1)
    bound_B1 = best_B1 + (settings.margin or 0.0) + (settings.relative_margin or 0.0) * best_B1.abs()
    is_false_BN = (score_BN > bound_B1).scatter(1, positive_B1, False).scatter(1, largest_B1, False)
    return target_BN.masked_fill(is_false_BN, torch.nan)


def by_text(doc_ids: Iterable[str], texts: Mapping[str, Document]) -> dict[str, list[str]]:
    """The documents that have each text, whitespace around it aside."""
    found: dict[str, list[str]] = {}
    for doc_id in doc_ids:
        if doc_id in texts:
            found.setdefault(texts[doc_id].text.strip(), []).append(doc_id)
    return found


def same_texts(
    relevant: Collection[str], with_text: Mapping[str, Collection[str]], texts: Mapping[str, Document]
) -> frozenset[str]:
    """The documents of `with_text` that have the text of a relevant one."""
    known = {texts[doc_id].text.strip() for doc_id in relevant if doc_id in texts}
    return frozenset(doc_id for text in known for doc_id in with_text.get(text, ()))
