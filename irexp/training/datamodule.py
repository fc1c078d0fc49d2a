"""The data loaders of training and validation."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from irexp.config.schema import Machine, Training
from irexp.dataset.collection import Documents, Examples
from irexp.dataset.draw import Draw, check_skip
from irexp.model.bi_encoder import BiEncoder
from irexp.model.model import Model
from irexp.training.batch import Batch, Batches, PairBatch
from irexp.training.buckets import text_lengths
from irexp.training.false_negatives import check_guide
from irexp.training.prompts import check_prompts
from irexp.training.setup import TrainingSetup
from irexp.training.validation import ValidationBatch
from irexp.training.validation_sets import Validations
from irexp.types import UserError

log = logging.getLogger(__name__)

#: The first examples, which are taken to be like the others.
_LOOKED_AT = 100


class RetrievalData(LightningDataModule):
    """Batches for Lightning; a resumed training starts at its next batch."""

    def __init__(
        self,
        examples: Examples,
        documents: Documents,
        model: Model,
        *,
        training: Training,
        machine: Machine,
        in_batch: bool,
        negatives: Draw,
        seed: int,
        validation: Validations | None,
        same_text: bool = False,
        guide: BiEncoder | None = None,
        needs_positive: bool | None = None,
        needs_own: bool | None = None,
    ) -> None:
        """Log how many documents are missing from the collection; no text is tokenized yet.

        `needs_positive` says whether the loss must be told which document is relevant (None: as `in_batch`), and
        `needs_own` whether it compares the documents of an example (None: unless `in_batch`).
        """
        super().__init__()
        self._examples, self._documents, self._model = examples, examples.texts(documents), model
        self._training, self._machine, self._in_batch, self._seed = training, machine, in_batch, seed
        self._negatives, self._same_text, self._guide = negatives, same_text, guide
        _check(examples, model, negatives, needs_positive=in_batch if needs_positive is None else needs_positive)
        if training.length_buckets and examples.mixture is not None:
            raise UserError(
                f"training.length_buckets={training.length_buckets} would change how the sets of a mixture follow one "
                f"another; set it to null"
            )
        self._validation = validation
        self._unknown = examples.unknown_doc_ids(documents)
        self._check_negatives(needs_own=not in_batch if needs_own is None else needs_own)
        self._lengths = text_lengths(examples, self._documents) if training.length_buckets else None
        self._batches = self._make(rank=0, world_size=1)
        if self._unknown:
            log.warning(
                "%d documents of the training examples are not in the collection, such as %r: %d of %d examples lack "
                "their relevant document and are left out, and so are the missing negatives",
                len(self._unknown),
                min(self._unknown),
                len(examples) - self._batches.examples,
                len(examples),
            )
        log.info("training: %d examples", self._batches.examples)

    @classmethod
    def of(cls, model: Model, setup: TrainingSetup, validation: Validations | None) -> RetrievalData:
        """The batches of a training."""
        return cls(
            setup.examples,
            setup.documents,
            model,
            training=setup.training,
            machine=setup.machine,
            in_batch=setup.loss.in_batch,
            negatives=setup.negatives,
            seed=setup.seed,
            validation=validation,
            same_text=bool(setup.false_negatives.same_text),
            guide=check_guide(setup.guide, setup.false_negatives),
            needs_positive=any(p.loss.in_batch and not p.loss.takes_scores_in_batch for p in setup.loss.parts()),
            needs_own=any(not p.loss.in_batch and not p.loss.compares_viewers for p in setup.loss.parts()),
        )

    @property
    def batches(self) -> Batches:
        """All batches, of a single process."""
        return self._batches

    @property
    def examples(self) -> int:
        """The number of usable examples per epoch."""
        return self._batches.examples

    def query_ids(self, number: int) -> list[str]:
        """The ids of the queries of a batch, one for each example."""
        return [self._examples[position].query.query_id for position in self._batches.positions(number)]

    @property
    def steps(self) -> int:
        """The total number of optimizer steps."""
        training = self._training
        if training.steps is not None:
            return training.steps
        return -(-self._batches.examples * (training.epochs or 0) // training.batch_size)

    @property
    def validate_every(self) -> int:
        """Steps between two validations; without validation a value above the number of steps."""
        return self._training.validate_every or self.steps + 1

    def train_dataloader(self) -> DataLoader[Batch | PairBatch]:
        """Batches from the next one on, without end: the trainer stops after its number of steps."""
        trainer = self.trainer
        assert trainer is not None
        batches = self._make(rank=trainer.global_rank, world_size=trainer.world_size)
        return DataLoader(
            batches,
            batch_size=None,
            sampler=_From(trainer.global_step * self._training.accumulate_batches),
            num_workers=self._machine.num_workers,
            worker_init_fn=_tokenize_alone,
            generator=torch.Generator().manual_seed(self._seed),  # else it would use dropout's generator
        )

    def val_dataloader(self) -> DataLoader[ValidationBatch]:
        """The batches of the validation."""
        assert self._validation is not None
        return DataLoader(self._validation, batch_size=None)

    def _check_negatives(self, *, needs_own: bool) -> None:
        """Check that there is something to learn; a batch of examples without negatives then only teaches nothing.

        Raises:
            UserError: if no example has a negative of its own, and the loss or the size of the batches asks for one.
        """
        size = self._training.batch_size // self._training.accumulate_batches
        if self._in_batch and not needs_own and size > 1:
            return
        if not any(
            sum(doc_id not in self._unknown for doc_id in self._examples[position].doc_ids) > 1
            for position in range(len(self._examples))
        ):
            several = "" if needs_own else f", or batches of several examples in place of {size}"
            raise UserError(
                f"no training example has a negative of its own, which the loss needs: set negatives=bm25, examples "
                f"with negatives{several}"
                + (", or a loss of in-batch negatives alone, such as loss=info_nce" if needs_own else "")
            )

    def _make(self, *, rank: int, world_size: int) -> Batches:
        return Batches(
            self._examples,
            self._documents,
            self._model,
            size=self._training.batch_size // self._training.accumulate_batches,
            in_batch=self._in_batch,
            seed=self._seed,
            negatives=self._negatives,
            unknown=self._unknown,
            same_text=self._same_text,
            guide=self._guide,
            rank=rank,
            world_size=world_size,
            lengths=self._lengths,
            length_buckets=self._training.length_buckets,
        )


class _From(Sampler[int]):
    """Yields numbers from a first one on, without end; it has no length, so that Lightning counts no epochs."""

    def __init__(self, first: int) -> None:
        self._first = first

    def __iter__(self) -> Iterator[int]:
        number = self._first
        while True:
            yield number
            number += 1


def _tokenize_alone(worker: int) -> None:
    """Keep a forked worker from waiting for tokenizer threads that exist only in its parent process."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _check(examples: Examples, model: Model, negatives: Draw, *, needs_positive: bool) -> None:
    """Check that the examples can be drawn from, and go with the model.

    Raises:
        UserError: if in-batch negatives need a positive that the examples do not name, `negatives.skip` leaves no
            negatives, or the model cannot use the prompts of a training set.
    """
    if needs_positive and not examples.is_positive_first:
        raise UserError(
            "the loss needs a positive for its in-batch negatives, and lists with ranks or scores do not say which "
            "document is one; set dataset.train.targets=relevance, a loss of each query's own documents "
            "(loss=rank_net, kl_divergence), or loss=score_based_in_batch, which learns it from the scores"
        )
    found = [examples[position] for position in range(min(len(examples), _LOOKED_AT))]
    check_skip(negatives.skip, found)
    of_sets = examples.mixture.prompts if examples.mixture is not None else ()
    has_both = isinstance(model, BiEncoder)  # a pair has the query's prompt alone, also of a line with a symmetric type
    prompts = [(example.query_prompt, example.document_prompt if has_both else None) for example in found]
    check_prompts(model, [*of_sets, *prompts])
