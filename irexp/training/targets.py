"""Whether a loss, a model and the targets of the training examples go together."""

from __future__ import annotations

import logging

from irexp.dataset.collection import Examples, is_labelled
from irexp.loss.loss import Loss
from irexp.model.model import Model
from irexp.types import UserError

log = logging.getLogger(__name__)

#: The first examples, which are taken to be like the others.
_LOOKED_AT = 100


def check_targets(model: Model, loss: Loss, examples: Examples) -> None:
    """Compare the targets of examples with what the loss learns from, and with what the model can reach.

    A warning says if a teacher's scores of a query's documents lie further apart than the model's can.

    Raises:
        UserError: if the loss learns a teacher's scores and the targets are relevance.
    """
    if not loss.needs_scores:
        return
    name = type(loss).__name__
    found = [examples[position] for position in range(min(len(examples), _LOOKED_AT))]
    if examples.has_scores is False or all(map(is_labelled, found)):
        raise UserError(
            f"{name} learns a teacher's scores, and the training examples have only relevance, 1 and 0; give examples "
            f"with scores (a file of [doc_id, score], see dataset=triples), or set loss=info_nce, lce or rank_net"
        )
    widest = max(max(example.targets) - min(example.targets) for example in found)
    if model.largest_score is not None and widest > 2 * model.largest_score:
        log.warning(
            "the scores of %s lie within ±%g, and the teacher's of one query are up to %.1f apart, which %s cannot "
            "reach; use an inner product (model.similarity=dot), or loss=rank_net, which learns only their order",
            model.name,
            model.largest_score,
            widest,
            name,
        )
