"""The training step, on one screen.

Shapes: B queries of this process, N documents per query, H embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn.functional import pad
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from irexp.loss.loss import Loss
from irexp.model.bi_encoder import BiEncoder, Encoded
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.regularizer.regularizer import Regularizer, own_mean
from irexp.training.batch import Batch, PairBatch
from irexp.training.validation import Validated, ValidationBatch
from irexp.training.validation_sets import Validations
from irexp.types import Embeddings, TokenEmbeddings, UserError


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
        learning_rate: float,
        steps: int,
        seed: int,
        validation: Validations | None,
        processes: int,
    ) -> None:
        """Combine the parts.

        Args:
            model: the model to train.
            loss: the loss to minimise.
            regularizer: a penalty on embeddings, added to the loss; None for no penalty.
            optimizer: called with parameter groups and `lr`.
            schedule: called with the step and `steps`; returns the factor of the learning rate.
            learning_rate: the peak learning rate.
            steps: the total number of optimizer steps.
            seed: decides dropout.
            validation: the development queries and documents; None for no validation.
            processes: the number of processes that share a batch.
        """
        super().__init__()
        self.model, self.loss, self.regularizer, self.validation = model, loss, regularizer, validation
        self._optimizer, self._schedule, self._learning_rate, self._steps = optimizer, schedule, learning_rate, steps
        self._seed, self._processes = seed, processes
        self.validated: Validated | None = None  # the result of the last validation

    def training_step(self, batch: Batch | PairBatch, number: int) -> Tensor:
        """Encode, score, compute the loss."""
        scores, penalty = self._score_pairs(batch) if isinstance(batch, PairBatch) else self._score_embeddings(batch)
        loss = torch.stack([self.loss(score_BN, batch.target_BN) for score_BN in scores]).mean()
        if self._processes > 1:
            loss = loss * self._weight(batch.target_BN)
        if penalty is not None:
            self.log("train/penalty", penalty)
            loss = loss + penalty
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} at step {self.global_step}: lower training.learning_rate, set "
                f"training.clip_norm, or use training.precision=32-true"
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.target_BN), sync_dist=True)
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def _score_pairs(self, batch: PairBatch) -> tuple[list[Tensor], None]:
        """score_BN of a cross-encoder."""
        assert isinstance(self.model, CrossEncoder)
        score_P = self.model.score_pairs(batch.pairs, batch.sizes)
        return [score_P[batch.column_BN]], None

    def _score_embeddings(self, batch: Batch) -> tuple[list[Tensor], Tensor | None]:
        """One or several score_BN of a bi-encoder, and the penalty on its embeddings."""
        assert isinstance(self.model, BiEncoder)
        queries = self.model.encode_queries(batch.queries)
        documents = self.model.encode_documents(batch.documents)
        penalty = self._penalty(queries, documents, batch.is_new_N) if self.regularizer is not None else None
        if self.loss.in_batch and self._processes > 1:
            documents = self._gather(documents)
        scores = self.model.similarity(queries, documents)
        if batch.column_BN is not None:
            scores = [score_BN.gather(1, batch.column_BN) for score_BN in scores]
        return scores, penalty

    def _penalty(self, queries: Encoded, documents: Encoded, is_new_N: Tensor | None) -> Tensor:
        """The penalty on the embeddings of all processes, each text counted once."""
        assert self.regularizer is not None
        if not isinstance(queries, Embeddings) or not isinstance(documents, Embeddings):
            raise UserError(
                "a regularizer needs one vector per text, but the model has one per token; set regularizer=none"
            )
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

    def _weight(self, target_BN: Tensor) -> Tensor:
        """The factor of this process's loss which makes the mean over processes equal a single process's loss."""
        terms = self.loss.terms(target_BN)
        return terms / self._all_values(terms).float().mean().clamp(min=1e-9)

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

    def configure_optimizers(self) -> Any:
        """Weight decay applies to matrices, not to biases, norms and other vectors."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim > 1]
        vectors = [parameter for parameter in trained if parameter.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = self._optimizer([group for group in groups if group["params"]], lr=self._learning_rate)
        scheduler = LambdaLR(optimizer, lambda step: self._schedule(step, steps=self._steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Reset the count of fetched batches to the completed ones, since a checkpoint is saved between two steps.

        Otherwise Lightning would run every validation one batch early in a resumed training.
        """
        for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(counts, dict):
                counts["ready"] = counts["completed"]

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
