"""Whether a loss, a model and the targets of the training examples go together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import accumulate

from irexp.dataset.collection import Examples, is_labelled
from irexp.loss.loss import Loss
from irexp.loss.ranking import HIGHEST_GRADE
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

    A warning says if a teacher's scores of a query's documents lie further apart than the model's can, or if a
    temperature makes the model's scores all but equal.

    Raises:
        UserError: if the model has not what the loss compares, if the loss learns a teacher's scores and the targets
            are relevance, if it learns grades and the targets are scores, or if no target makes a negative.
    """
    sets = _first_of_sets(examples)
    found = [example for one in sets for example in one]
    for part in loss.parts():
        check_family(type(model), part.loss)
        if part.loss.needs_scores:
            _check_scores(part.loss, examples, sets)
        if part.loss.needs_grades:
            _check_grades(part.loss, found)
        _check_difference(part.loss, found)
        _warn_of_reach(model, part.loss, found)


def _first_of_sets(examples: Examples) -> list[list[Example]]:
    """Some examples of each set of a mixture, or of the one set."""
    sizes = examples.mixture.sizes if examples.mixture is not None else (len(examples),)
    starts = [end - size for end, size in zip(accumulate(sizes), sizes, strict=True)]
    return [
        [examples[position] for position in range(start, start + min(size, _LOOKED_AT))]
        for start, size in zip(starts, sizes, strict=True)
        if size
    ]


def check_family(family: type[Model], loss: Loss) -> None:
    """Compare a loss with a family of models.

    Raises:
        UserError: if the family has not what the loss compares.
    """
    name = type(loss).__name__
    if issubclass(family, CrossEncoder) and loss.in_batch:
        raise UserError(
            f"{name}: the loss needs in-batch negatives, but a cross-encoder only scores each query's own documents; "
            f"set loss=lce, or loss.in_batch=false"
        )
    if loss.compares_viewers and not issubclass(family, MVR):
        raise UserError(
            f"{name} compares a query with each viewer of a document, and a {family.__name__} has no viewers; set "
            f"model=mvr, or another loss"
        )


def _check_scores(loss: Loss, examples: Examples, sets: Sequence[Sequence[Example]]) -> None:
    name = type(loss).__name__
    without = [one for one in sets if examples.has_scores is False or all(map(is_labelled, one))]
    if without:
        whose = "the training examples have" if len(without) == len(sets) else "a set of dataset.train.sets has"
        raise UserError(
            f"{name} learns a teacher's scores, and {whose} only relevance, 1 and 0, such as for the query "
            f"{without[0][0].query.query_id}; give examples with scores (a file of [doc_id, score], see "
            f"dataset=triples), or set loss=info_nce, lce or rank_net"
        )


def _warn_of_reach(model: Model, loss: Loss, found: Sequence[Example]) -> None:
    """Warn of a loss to which the differences of the model's scores are too small."""
    name = type(loss).__name__
    scale, temperature = getattr(loss, "scale", None), getattr(loss, "temperature", 0.0)
    if model.largest_score is None or (isinstance(scale, Scale) and scale.is_learned):
        return  # a learned scale begins too small, and grows
    widest, reach = max(max(example.targets) - min(example.targets) for example in found), 2 * model.largest_score
    if not isinstance(scale, Scale) or all(map(is_labelled, found)):
        factor = scale.value if isinstance(scale, Scale) else 1.0
        if temperature >= model.largest_score * factor:
            log.warning(
                "the scores of %s lie within ±%g, and %s divides them by temperature=%g, so that the best and the "
                "worst document hardly differ to it; set loss.temperature=0.05, or use an inner product "
                "(model.similarity=dot)",
                model.name,
                model.largest_score * factor,
                name,
                temperature,
            )
    elif widest > reach * scale.value:
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


def _check_difference(loss: Loss, found: Sequence[Example]) -> None:
    """Refuse a `min_target_diff` with which no document is a negative; warn if only other queries' documents are."""
    needed: float | None = getattr(loss, "min_target_diff", None)
    widest = max(max(example.targets) - min(example.targets) for example in found)
    if needed is None or widest >= needed:
        return
    message = (
        f"loss.min_target_diff={needed:g}: the targets of a query's documents are at most {widest:.2g} apart, in the "
        f"first training examples, so that none of them is a negative; lower it"
    )
    if not loss.in_batch:
        raise UserError(message)
    log.warning("%s, or the negatives are those of the other queries alone", message)


def _check_grades(loss: Loss, found: Sequence[Example]) -> None:
    lowest = min(min(example.targets) for example in found)
    if lowest < 0 and getattr(loss, "max_grade", None) is None:
        raise UserError(
            f"{type(loss).__name__} learns grades of relevance, at least 0, and a training example has the target "
            f"{lowest:g}, a teacher's score; set loss.max_grade=4, which maps each query's scores to 0 … 4"
        )
    highest = max(max(example.targets) for example in found)
    if highest > HIGHEST_GRADE and getattr(loss, "max_grade", None) is None:
        raise UserError(
            f"{type(loss).__name__} weighs a grade g with 2^g - 1, and a training example has the target {highest:g}, "
            f"above {HIGHEST_GRADE}; set loss.max_grade=4, which maps each query's scores to 0 … 4"
        )
