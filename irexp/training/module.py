"""The training step, on one screen.

Shapes: B queries of this process, N documents that they are compared with, H embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from irexp.loss.loss import Loss
from irexp.model.bi_encoder import BiEncoder
from irexp.training.batch import Batch
from irexp.training.validation import Validation, ValidationBatch
from irexp.types import Embeddings, UserError


class RetrievalModule(LightningModule):
    """A bi-encoder in training."""

    def __init__(
        self,
        model: BiEncoder,
        loss: Loss,
        *,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., float],
        learning_rate: float,
        steps: int,
        seed: int,
        validation: Validation | None,
    ) -> None:
        """Put the parts together.

        Args:
            model: what is trained.
            loss: what is minimised.
            optimizer: called with parameter groups and `lr`.
            schedule: called with the step and `steps`; the factor of the learning rate.
            learning_rate: its peak.
            steps: all optimizer steps.
            seed: decides dropout.
            validation: what the model is measured on; None for nothing.
        """
        super().__init__()
        self.model, self.loss, self.validation = model, loss, validation
        self._optimizer, self._schedule, self._learning_rate, self._steps = optimizer, schedule, learning_rate, steps
        self._seed = seed

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """Encode, compare, compute the loss."""
        queries = self.model.encode_queries(batch.queries)
        documents = self.model.encode_documents(batch.documents)
        if self.loss.in_batch and self.trainer.world_size > 1:
            documents = self._gather(documents)
        score_BN = self.model.similarity(queries, documents)
        if batch.column_BN is not None:
            score_BN = score_BN.gather(1, batch.column_BN)
        loss: Tensor = self.loss(score_BN, batch.target_BN)
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} at step {self.global_step}: lower training.learning_rate, keep "
                f"training.clip_norm, or use training.precision=32-true"
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(score_BN))
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def validation_step(self, batch: ValidationBatch, number: int) -> None:
        """Encode a batch of one side."""
        assert self.validation is not None
        encode = self.model.encode_queries if batch.is_query else self.model.encode_documents
        self.validation.collect(batch, encode(batch.tokens).vectors_BH)

    def on_validation_epoch_end(self) -> None:
        """Search and measure."""
        assert self.validation is not None
        name, value = self.validation.measure()
        self.log(f"validation/{name}", value, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Matrices are decayed; biases, norms and other vectors are not."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim > 1]
        vectors = [parameter for parameter in trained if parameter.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = self._optimizer([group for group in groups if group["params"]], lr=self._learning_rate)
        scheduler = LambdaLR(optimizer, lambda step: self._schedule(step, steps=self._steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Count the batch that is ready as not begun, since a checkpoint is taken between two steps.

        Else Lightning would validate one batch early for the rest of a resumed training.
        """
        for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(counts, dict):
                counts["ready"] = counts["completed"]

    def on_train_batch_start(self, batch: Batch, number: int) -> None:
        """Draw dropout from the seed, the batch's number and the process: a resumed training draws the same."""
        torch.manual_seed(int(np.random.SeedSequence([self._seed, number, self.global_rank]).generate_state(1)[0]))

    def _gather(self, documents: Embeddings) -> Embeddings:
        """The documents of all processes, in their order; gradients flow back to where they came from."""
        gathered = self.all_gather(documents.vectors_BH, sync_grads=True)
        assert isinstance(gathered, Tensor)
        return replace(documents, vectors_BH=gathered.flatten(0, 1))
