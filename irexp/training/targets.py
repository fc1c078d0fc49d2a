"""Whether a loss, a model and the targets of the training examples go together."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from irexp.dataset.collection import Examples, is_labelled
from irexp.loss.loss import Loss
from irexp.loss.scale import Scale
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.model.mvr import MVR
from irexp.types import Example, UserError

log = logging.getLogger(__name__)

#: The first examples, which are taken to be like the others.
_LOOKED_AT = 100


def check_targets(model: Model, loss: Loss, examples: Examples) -> None:
    """Compare a loss with the model, and with the targets of the examples.

    A warning says if a teacher's scores of a query's documents lie further apart than the model's can.

    Raises:
        UserError: if the model has not what the loss compares, if the loss learns a teacher's scores and the targets
            are relevance, or if it learns grades and the targets are scores.
    """
    found = [examples[position] for position in range(min(len(examples), _LOOKED_AT))]
    for part in loss.parts():
        _check_model(model, part.loss)
        if part.loss.needs_scores:
            _check_scores(model, part.loss, examples, found)
        if part.loss.needs_grades:
            _check_grades(part.loss, found)


def _check_model(model: Model, loss: Loss) -> None:
    name = type(loss).__name__
    if isinstance(model, CrossEncoder) and loss.in_batch:
        raise UserError(
            f"{name}: the loss needs in-batch negatives, but a cross-encoder only scores each query's own documents; "
            f"set loss=lce, or loss.in_batch=false"
        )
    if loss.compares_viewers and not isinstance(model, MVR):
        raise UserError(
            f"{name} compares a query with each viewer of a document, and {model.name} has no viewers; set model=mvr, "
            f"or another loss"
        )


def _check_scores(model: Model, loss: Loss, examples: Examples, found: Sequence[Example]) -> None:
    name = type(loss).__name__
    if examples.has_scores is False or all(map(is_labelled, found)):
        raise UserError(
            f"{name} learns a teacher's scores, and the training examples have only relevance, 1 and 0; give examples "
            f"with scores (a file of [doc_id, score], see dataset=triples), or set loss=info_nce, lce or rank_net"
        )
    scale = getattr(loss, "scale", None)
    if model.largest_score is None or not isinstance(scale, Scale) or scale.is_learned:
        return  # a learned scale begins too small, and grows
    widest, reach = max(max(example.targets) - min(example.targets) for example in found), 2 * model.largest_score
    if widest > reach * scale.value:
        log.warning(
            "the scores of %s lie within ±%g, and the teacher's of one query are up to %.1f apart, which %s cannot "
            "reach; set loss.learn_scale=true or loss.scale=%.0f, use an inner product (model.similarity=dot), or "
            "loss=rank_net, which learns only their order",
            model.name,
            model.largest_score * scale.value,
            widest,
            name,
            max(2.0, widest / reach),
        )


def _check_grades(loss: Loss, found: Sequence[Example]) -> None:
    lowest = min(min(example.targets) for example in found)
    if lowest < 0 and getattr(loss, "max_grade", None) is None:
        raise UserError(
            f"{type(loss).__name__} learns grades of relevance, at least 0, and a training example has the target "
            f"{lowest:g}, a teacher's score; set loss.max_grade=4, which maps each query's scores to 0 … 4"
        )
