"""The training step, on one screen.

Shapes: B queries of this process, N documents per query, H embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn.functional import pad
from torch.optim import Optimizer

from irexp.config.schema import FalseNegatives, Training
from irexp.loss.loss import Loss
from irexp.loss.scale import Scale
from irexp.model.bi_encoder import BiEncoder, Encoded
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.device import device_of, forward_budget_of
from irexp.model.lora import transformers_of
from irexp.model.model import Model
from irexp.model.mvr import MVR
from irexp.regularizer.regularizer import Regularizer, own_mean
from irexp.training.averaging import WeightAverage
from irexp.training.batch import Batch, PairBatch
from irexp.training.diverged import check_loss, check_number
from irexp.training.false_negatives import check_guide, compares_scores, without_false_negatives
from irexp.training.grad_cache import encode_in_chunks, score_in_chunks
from irexp.training.objective import Scored
from irexp.training.optimizer import make_optimizer
from irexp.training.setup import TrainingSetup
from irexp.training.sharding import gathers_weights, shard
from irexp.training.validation import Validated, ValidationBatch
from irexp.training.validation_sets import Validations
from irexp.types import Embeddings, TokenEmbeddings


class RetrievalModule(LightningModule):
    """A model with its loss and optimizer, as a Lightning module."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        *,
        regularizer: Regularizer | None,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., float],
        training: Training,
        steps: int,
        seed: int,
        validation: Validations | None,
        processes: int,
        false_negatives: FalseNegatives | None = None,
        guide: BiEncoder | None = None,
        is_compiled: bool = False,
        forward_tokens: int | None = None,
    ) -> None:
        """Combine the parts.

        Args:
            model: the model to train.
            loss: the loss to minimise.
            regularizer: a penalty on embeddings, added to the loss; None for no penalty.
            optimizer: called with parameter groups and `lr`.
            schedule: called with the step and `steps`; returns the factor of the learning rate.
            training: `chunk_size`, `ema_decay`, and the learning rates of `make_optimizer`.
            steps: the total number of optimizer steps.
            seed: decides dropout.
            validation: the development queries and documents; None for no validation.
            processes: the number of processes that share a batch.
            false_negatives: which documents of a batch are left out as negatives; None for none.
            guide: the model whose scores decide that, which is not trained; None for the trained model.
            forward_tokens: tokens per forward pass, texts of similar length together; None for the whole batch at once.
            is_compiled: whether torch.compile makes the transformers' code faster.
        """
        super().__init__()
        self.model, self.loss, self.regularizer, self.validation = model, loss, regularizer, validation
        self._optimizer, self._schedule, self._training, self._steps = optimizer, schedule, training, steps
        self._seed, self._processes, self._chunk_size = seed, processes, training.chunk_size
        self._average = None if training.ema_decay is None else WeightAverage(training.ema_decay)
        self._is_compiled, self._averaged_step = is_compiled, 0
        self._windows: dict[str, list[Tensor]] = {}  # losses of the batches of this optimizer step
        self._forward_tokens = None if isinstance(model, CrossEncoder) and model.is_listwise else forward_tokens
        self._false_negatives = false_negatives or FalseNegatives()
        # in a list, so that Lightning neither trains nor saves it
        self._guide = [] if guide is None else [guide.eval().requires_grad_(False)]
        self.validated: Validated | None = None  # the result of the last validation
        self.strict_loading = all(parameter.requires_grad for parameter in self.parameters())

    @classmethod
    def of(cls, model: Model, setup: TrainingSetup, *, steps: int, validation: Validations | None) -> RetrievalModule:
        """The module of a training."""
        machine = setup.machine
        return cls(
            model,
            setup.loss,
            regularizer=setup.regularizer,
            optimizer=setup.optimizer,
            schedule=setup.schedule,
            training=setup.training,
            steps=steps,
            seed=setup.seed,
            validation=validation,
            processes=machine.devices * machine.num_nodes,
            is_compiled=machine.compile,
            forward_tokens=machine.forward_tokens or forward_budget_of(device_of(machine.accelerator), model.width),
            false_negatives=setup.false_negatives,
            guide=check_guide(setup.guide, setup.false_negatives),
        )

    def training_step(self, batch: Batch | PairBatch, number: int) -> Tensor:
        """Encode, score, compute the loss."""
        scored, penalty = self._score_pairs(batch) if isinstance(batch, PairBatch) else self._score_embeddings(batch)
        loss = self._loss(scored)
        if penalty is not None:
            self.log("train/penalty", penalty)
            loss = loss + penalty
        check_loss(loss, self.global_step)
        self._log_mean("train/loss", loss, prog_bar=True, batch_size=len(batch.target_BN), sync_dist=True)
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def _loss(self, scored: Scored) -> Tensor:
        """The weighted sum of the losses, each the mean over the numbers of dimensions that are trained."""
        parts = self.loss.parts()
        total = torch.zeros((), device=self.device)
        for part in parts:
            scores, target_BN = scored.of(part.loss)
            if part.loss.compares_queries and self._processes > 1:
                scores, target_BN = [self._gathered(score_BN) for score_BN in scores], self._gathered(target_BN)
            values = [part.loss(score_BN, target_BN) for score_BN in scores]
            check_number(values[0], part.loss)
            value = torch.stack(values).mean()
            if self._processes > 1:
                value = value * self._weight(part.loss, target_BN)
            if len(parts) > 1:
                self._log_mean(f"train/{part.name}", value, batch_size=len(target_BN), sync_dist=True)
            scale = getattr(part.loss, "scale", None)
            if isinstance(scale, Scale) and scale.is_learned:
                self.log(f"train/{part.name}_scale", scale.value)
            total = total + part.weight * value
        return total

    def _log_mean(self, name: str, value: Tensor, **settings: Any) -> None:
        """Log the mean over the batches of an optimizer step: what stands after its last one is that of the step."""
        window = self._windows.setdefault(name, [])
        window.append(value.detach())
        self.log(name, torch.stack(window).mean(), **settings)
        if len(window) == self._training.accumulate_batches:
            window.clear()

    def _score_pairs(self, batch: PairBatch) -> tuple[Scored, None]:
        """The scores of a cross-encoder."""
        assert isinstance(self.model, CrossEncoder)
        score_P = score_in_chunks(
            self.model.score_pairs,
            batch.pairs,
            batch.sizes,
            self._chunk_size,
            budget=self._forward_tokens,
            agree=self._agreed,
        )
        return Scored([score_P[batch.lists.column_BN]], batch.lists, [], None), None

    def _score_embeddings(self, batch: Batch) -> tuple[Scored, Tensor | None]:
        """The scores of a bi-encoder, and the penalty on its embeddings."""
        assert isinstance(self.model, BiEncoder)
        encode = partial(encode_in_chunks, size=self._chunk_size, budget=self._forward_tokens, agree=self._agreed)
        queries = encode(self.model.encode_queries, batch.queries)
        documents = encode(self.model.encode_documents, batch.documents)
        penalty = self._penalty(queries, documents, batch.is_new_N) if self.regularizer is not None else None
        if self.loss.in_batch and self._processes > 1:
            documents = self._gather(documents)
        scores, lists = self.model.similarity(queries, documents), batch.own()
        scored = Scored([score_BN.gather(1, lists.column_BN) for score_BN in scores], lists, [], None)
        if batch.column_BN is None:
            scored.all_scores = scores
            scored.all_target_BN = self._without_false_negatives(scores[0], batch)
        if any(part.loss.compares_viewers for part in self.loss.parts()):
            assert isinstance(self.model, MVR)
            scored.viewers = self.model.viewer_scores(queries, documents, lists.column_BN[:, 0])
        return scored, penalty

    def _without_false_negatives(self, score_BN: Tensor, batch: Batch) -> Tensor:
        """The targets of all documents, with NaN for those that may be relevant, by the guide's or the own scores."""
        if not compares_scores(self._false_negatives):
            return batch.target_BN
        for guide in self._guide:
            assert batch.guide is not None
            with torch.no_grad():
                queries = encode_in_chunks(guide.encode_queries, batch.guide[0], self._chunk_size)
                documents = encode_in_chunks(guide.encode_documents, batch.guide[1], self._chunk_size)
                documents = self._gather(documents) if self._processes > 1 else documents
                (score_BN,) = guide.similarity(queries, documents)
        is_scored = any(part.loss.takes_scores_in_batch for part in self.loss.parts())
        positive_B1 = batch.own().best_column() if is_scored else None
        target_BN = without_false_negatives(score_BN.detach(), batch.target_BN, self._false_negatives, positive_B1)
        share = (target_BN.isnan().sum() - batch.target_BN.isnan().sum()) / target_BN.numel()
        self.log("train/false_negatives", share, batch_size=len(target_BN), sync_dist=True)
        return target_BN

    def _penalty(self, queries: Encoded, documents: Encoded, is_new_N: Tensor | None) -> Tensor:
        """The penalty on the embeddings of all processes, each text counted once."""
        assert self.regularizer is not None
        assert isinstance(queries, Embeddings)
        assert isinstance(documents, Embeddings)
        document_NH = documents.vectors_BH if is_new_N is None else documents.vectors_BH[is_new_N]
        mean = own_mean if is_new_N is None else self._mean
        penalty: Tensor = self.regularizer(
            queries.vectors_BH, document_NH, step=self.global_step, steps=self._steps, mean=mean
        )
        return penalty

    def _mean(self, value_B: Tensor) -> Tensor:
        """The mean over the texts of all processes, with gradients."""
        count = self._all_values(value_B.new_tensor(len(value_B)))
        total: Tensor = self._all_values(value_B.sum(dim=0)).sum(dim=0)
        return total / count.sum()

    def _weight(self, loss: Loss, target_BN: Tensor) -> Tensor:
        """The factor of this process's loss which makes the mean over processes equal a single process's loss."""
        terms = loss.terms(target_BN)
        return terms / self._all_values(terms).float().mean().clamp(min=1e-9)

    def _agreed(self, passes: int) -> int:
        """The most forward passes of all processes, which each must run, since sharded weights are gathered by all."""
        if not gathers_weights(self.trainer.strategy):
            return passes
        return int(self._all_values(torch.tensor(passes, device=self.device)).max())

    def _all_values(self, value: Tensor) -> Tensor:
        """The values of all processes, stacked in order of their ranks, with gradients."""
        gathered = self.all_gather(value, sync_grads=value.requires_grad)
        assert isinstance(gathered, Tensor)
        return gathered

    def validation_step(self, batch: ValidationBatch, number: int) -> None:
        """Encode a batch of queries or documents, or score a batch of pairs."""
        assert self.validation is not None
        self.validation.collect(batch)

    def on_validation_epoch_end(self) -> None:
        """Search, and log the measures."""
        assert self.validation is not None
        self.validated = self.validation.measure()
        for number, (name, value) in enumerate(self.validated.values.items()):
            self.log(f"validation/{name}", value, prog_bar=number == 0, sync_dist=True)

    def configure_model(self) -> None:
        """Shard the weights, if that is the strategy."""
        if self.device_mesh is not None:
            shard(self)

    def configure_optimizers(self) -> Any:
        """The optimizer with its parameter groups, and the schedule."""
        return make_optimizer(
            self.model,
            self.loss,
            optimizer=self._optimizer,
            schedule=self._schedule,
            training=self._training,
            steps=self._steps,
        )

    def on_fit_start(self) -> None:
        """Compile the transformers, move the guide to the device, and begin the average of the weights."""
        for guide in self._guide:
            guide.to(self.device)
        if self._is_compiled:
            for encoder in transformers_of(self.model).values():
                encoder.compile(dynamic=True)
        if self._average is not None:
            self._average.start(self)

    def on_train_start(self) -> None:
        """Count optimizer steps from the resumed one."""
        self._averaged_step = self.global_step

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Average the weights after each optimizer step."""
        if self._average is not None and self.global_step > self._averaged_step:
            self._average.update(self)
            self._averaged_step = self.global_step

    def on_validation_start(self) -> None:
        """Validate the average of the weights, if there is one."""
        self._use_average(True)

    def on_validation_end(self) -> None:
        """Train on, after Lightning has saved the validated weights."""
        self._use_average(False)

    def on_train_end(self) -> None:
        """End with the average of the weights, if there is one, and without compiled code, which cannot be copied."""
        self._use_average(True)
        self._average = None
        for encoder in transformers_of(self.model).values():
            encoder._compiled_call_impl = None

    def _use_average(self, is_used: bool) -> None:
        if self._average is not None and self._average.has_started:
            self._average.swap(self, is_used=is_used)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the average, leave out frozen weights, and reset the count of fetched batches to the completed ones.

        A checkpoint is saved between two steps; without the reset Lightning would run every validation one batch early
        in a resumed training.
        """
        for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(counts, dict):
                counts["ready"] = counts["completed"]
        frozen = {name for name, p in self.named_parameters(remove_duplicate=False) if not p.requires_grad}
        for name in list(checkpoint["state_dict"]):
            if name in frozen or name.partition(".weight.")[0] + ".weight" in frozen:  # the scales of 4-bit weights
                del checkpoint["state_dict"][name]
        if self._average is not None and "optimizer_states" in checkpoint:  # of a training that may be resumed
            checkpoint["weight_average"] = self._average.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the average."""
        if self._average is not None:
            self._average.load(checkpoint["weight_average"])

    def on_train_batch_start(self, batch: Batch | PairBatch, number: int) -> None:
        """Seed dropout by the seed, the batch's number and the process, so that a resumed training draws the same."""
        torch.manual_seed(int(np.random.SeedSequence([self._seed, number, self.global_rank]).generate_state(1)[0]))

    def _gather(self, documents: Encoded) -> Encoded:
        """The documents of all processes, in order of their ranks; gradients flow back to their processes."""
        if isinstance(documents, Embeddings):
            return Embeddings(self._gathered(documents.vectors_BH))
        length = documents.mask_BL.shape[1]
        missing = int(self._all_values(torch.tensor(length, device=self.device)).max()) - length
        ids_BL = documents.token_ids_BL
        return TokenEmbeddings(
            self._gathered(pad(documents.vectors_BLH, (0, 0, 0, missing))),
            self._gathered(pad(documents.mask_BL.long(), (0, missing))),
            None if ids_BL is None else self._gathered(pad(ids_BL, (0, missing))),
        )

    def _gathered(self, share: Tensor) -> Tensor:
        return self._all_values(share).flatten(0, 1)
