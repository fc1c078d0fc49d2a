"""A training in Lightning IR for `tests.benchmark.fit_peers`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning_ir import BiEncoderModule, LightningIRDataModule, LightningIRTrainer, TupleDataset, models
from lightning_ir.data import TrainBatch
from lightning_ir.data.external_datasets.ir_datasets_utils import ScoredDocTuples, register_new_dataset
from lightning_ir.loss import InBatchCrossEntropy
from safetensors.torch import load_file
from torch import Tensor

from tests.benchmark.fit_job import CLIP_NORM, Job, make_optimizer

#: The marker tokens of irexp's untrained model, and those that Lightning IR adds to the vocabulary in their place.
_MARKERS = {"[unused0]": "[QUE]", "[unused1]": "[DOC]"}


class TemperedCrossEntropy(InBatchCrossEntropy):  # type: ignore[misc]
    """Lightning IR's in-batch loss with a temperature, which it lacks."""

    def __init__(self, temperature: float) -> None:
        """Set what divides the scores."""
        super().__init__()
        self.temperature = temperature

    def process_scores(self, output: Any) -> Tensor:
        """The scores divided by the temperature."""
        scores: Tensor = super().process_scores(output)
        return scores / self.temperature


def train(job: Job, folder: Path) -> float:
    """Train, save, and return the loss of the probe before."""
    module = BiEncoderModule(model=_new_model(job), loss_functions=[TemperedCrossEntropy(job.temperature)])
    if job.model == "colbert":
        _copy_new_weights(module, Path(job.initial))
    optimizer, schedule = make_optimizer(module.parameters(), job, fused=None)
    made = {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
    module.configure_optimizers = lambda: made
    probe = job.probe()
    queries, documents = [row["query"] for row in probe], [(row["document"],) for row in probe]
    module.eval()
    with torch.no_grad():
        batch = TrainBatch(queries, documents, None, None, None, torch.ones(len(probe)))
        (found,) = module._compute_losses(batch, module.forward(batch))
    module.train()
    register_new_dataset("pairs", **_files(job.pairs(), folder.parent), DocpairsType=ScoredDocTuples)
    pairs = TupleDataset("pairs", targets="order", num_docs=1)
    trainer = LightningIRTrainer(
        max_steps=job.steps,
        accelerator="cpu",
        gradient_clip_val=CLIP_NORM,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, LightningIRDataModule(train_dataset=pairs, train_batch_size=job.batch_size))
    module.model.save_pretrained(folder)
    module.tokenizer.save_pretrained(folder)
    return float(found)


def _new_model(job: Job) -> Any:
    """The untrained model; what is on top of the transformer is random."""
    lengths = {"query_length": job.query_length, "doc_length": job.document_length}
    if job.model == "sbert":
        config = models.DprConfig(**lengths, normalize=True, pooling_strategy="mean", projection=None)
        return models.DprModel.from_pretrained(job.initial, config=config)
    config = models.ColConfig(
        **lengths,
        normalization_strategy="l2",
        add_marker_tokens=True,
        query_expansion=True,
        doc_mask_scoring_tokens="punctuation",
        projection="linear_no_bias",
    )
    return models.ColModel.from_pretrained(job.initial, config=config)


def _copy_new_weights(module: Any, initial: Path) -> None:
    """Give the projection and the added markers the weights that they have in irexp's untrained model."""
    vectors, id_of = module.model.get_input_embeddings().weight.data, module.tokenizer.convert_tokens_to_ids
    for ours, theirs in _MARKERS.items():
        vectors[id_of(theirs)] = vectors[id_of(ours)]
    module.model.projection.weight.data = load_file(initial / "1_Dense" / "model.safetensors")["linear.weight"]


def _files(pairs: list[dict[str, str]], folder: Path) -> dict[str, str]:
    """Write a collection, its queries, and a list of one document per pair, and return the files by their kind."""
    queries = {row["query_id"]: row["query"] for row in pairs}
    documents = {row["doc_id"]: row["document"] for row in pairs}
    lines = {
        "docs.tsv": ["\t".join(item) for item in documents.items()],
        "queries.tsv": ["\t".join(item) for item in queries.items()],
        "docpairs.json": [json.dumps([row["query_id"], [row["doc_id"], 1.0]]) for row in pairs],
    }
    for name, content in lines.items():
        (folder / name).write_text("".join(f"{line}\n" for line in content), encoding="utf8")
    return {name.partition(".")[0]: str(folder / name) for name in lines}
