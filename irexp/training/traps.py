"""Warnings at the start of a training of settings that run, but do not do what is usually meant by them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import accumulate

import numpy as np
import torch

from irexp.dataset.collection import Examples
from irexp.loss.kl_divergence import KLDivergence
from irexp.training.datamodule import RetrievalData
from irexp.training.setup import TrainingSetup
from irexp.training.validation_sets import Validations

log = logging.getLogger(__name__)

#: Passes over the examples beyond which models of this field are rarely trained.
EPOCHS = 20

#: Batches that are looked at, and the share of their queries that should differ.
_BATCHES, _DISTINCT = 10, 0.75

#: Queries below which the mean of nDCG has a 95 % interval wider than ±0.1, at a usual standard deviation of 0.36.
QUERIES = 50

#: Documents below which a sample is too easy to tell good models from better ones.
DOCUMENTS = 500

#: The first examples of a training set, which are taken to be like the others.
_LOOKED_AT = 100

#: A softmax over scores that lie closer together (after the temperature) gives no document twice another's share.
_UNIFORM = float(np.log(2))

#: How many times wider the scores of one training set may be than those of another.
_TIMES = 10


def warn_of_traps(setup: TrainingSetup, data: RetrievalData, validation: Validations | None) -> None:
    """Log a warning of one line for each trap, with the value and how to avoid it.

    Args:
        setup: the training.
        data: its batches.
        validation: None without validation.
    """
    for warning in (
        *_batch(setup, data),
        *_terms(setup),
        *_epochs(setup, data),
        *_teacher(setup),
        *_sample(setup, validation),
    ):
        log.warning(warning)


def _batch(setup: TrainingSetup, data: RetrievalData) -> Iterator[str]:
    """In-batch negatives that are fewer than the batch size suggests."""
    if not setup.loss.in_batch:
        return
    training = setup.training
    size = training.batch_size // training.accumulate_batches
    if training.accumulate_batches > 1:
        yield (
            f"training.accumulate_batches={training.accumulate_batches}: in-batch negatives come from {size} queries, "
            f"not from all {training.batch_size} of a step; set training.accumulate_batches=1 if memory allows it"
        )
    batches = range(min(_BATCHES, data.steps * training.accumulate_batches))
    distinct = float(np.mean([len(set(data.query_ids(number))) for number in batches])) if batches else size
    if distinct < _DISTINCT * size:
        yield (
            f"a batch of {size} examples has only {distinct:.1f} different queries in the mean of the first "
            f"{len(batches)}, so that there are fewer in-batch negatives; lower training.batch_size, or set "
            f"dataset.train to examples of more queries"
        )


def _terms(setup: TrainingSetup) -> Iterator[str]:
    """A loss that is not a mean over queries, of which accumulated batches give another mean."""
    batches = setup.training.accumulate_batches
    if batches == 1:
        return
    looked_at = [setup.examples[position].targets for position in range(min(_LOOKED_AT, len(setup.examples)))]
    for part in setup.loss.parts():
        if len({int(part.loss.terms(torch.tensor([targets]))) for targets in looked_at}) > 1:
            yield (
                f"training.accumulate_batches={batches}: the batches of a step weigh the same, and "
                f"{type(part.loss).__name__} averages over what differs among them, pairs or queries with an order; "
                f"set training.accumulate_batches=1 if memory allows it"
            )


def _epochs(setup: TrainingSetup, data: RetrievalData) -> Iterator[str]:
    """More passes over the examples than they are usually good for."""
    epochs = data.steps * setup.training.batch_size / data.examples
    if epochs > EPOCHS:
        yield (
            f"{data.steps} steps of training.batch_size={setup.training.batch_size} visit each of the "
            f"{data.examples:,} training examples {epochs:.0f} times; above {EPOCHS} a model usually only learns them "
            f"by heart: lower training.steps or training.epochs"
        )


def _teacher(setup: TrainingSetup) -> Iterator[str]:
    """A teacher's scores whose scale the loss cannot use."""
    if not any(part.loss.needs_scores for part in setup.loss.parts()):
        return
    for loss in (part for part in setup.loss.modules() if isinstance(part, KLDivergence)):
        widest = max(_spreads(setup.examples, 0, len(setup.examples)))
        if widest / loss.temperature < _UNIFORM:
            yield (
                f"the teacher's scores of one query are at most {widest:.2g} apart, so that KLDivergence with "
                f"temperature={loss.temperature:g} learns nearly equal scores; use a teacher's logits rather than "
                f"probabilities or cosines, or lower loss.temperature"
            )
    sizes = setup.examples.mixture.sizes if setup.examples.mixture is not None else ()
    ends = list(accumulate(sizes))
    medians = [
        float(np.median(_spreads(setup.examples, end - size, end)))
        for size, end in zip(sizes, ends, strict=True)
        if size
    ]
    if medians and max(medians) > _TIMES * min(medians):
        yield (
            f"the training sets' teachers differ in scale: their scores of one query are {min(medians):.2g} "
            f"apart in one set and {max(medians):.2g} in another (medians), and the wider one decides what is learnt; "
            f"bring dataset.train.sets to one scale, or use loss=rank_net, which learns only the order"
        )


def _spreads(examples: Examples, start: int, end: int) -> list[float]:
    """How far apart the targets of each of the first examples of a range are."""
    found = [examples[position].targets for position in range(start, min(end, start + _LOOKED_AT))]
    return [max(targets) - min(targets) for targets in found]


def _sample(setup: TrainingSetup, validation: Validations | None) -> Iterator[str]:
    """A sample in which models cannot be told apart."""
    if validation is None:
        return
    queries = sum(len(each.sample.queries) for each in validation.sets.values())
    if queries < QUERIES:
        yield (
            f"the validation has only {queries} queries, whose mean nDCG is only known to about "
            f"±{1.96 * 0.36 / np.sqrt(queries):.2f} (95 % interval); raise "
            f"training.validation_queries, or set dataset.dev or validation=… to more queries"
        )
    drawn = setup.training.validation_documents
    for name, each in validation.sets.items():
        if drawn is not None and drawn <= len(each.sample.documents) < DOCUMENTS:  # else it is the whole collection
            yield (
                f"the validation on {name} searches only {len(each.sample.documents)} documents, among which the "
                f"relevant ones are easy to find; raise training.validation_documents"
            )
