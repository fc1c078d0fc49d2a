"""Lightning IR at work; see `irexp.peer.worker`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_ir import (
    BiEncoderModule,
    CrossEncoderModule,
    DocDataset,
    FaissFlatIndexConfig,
    FaissSearchConfig,
    IndexCallback,
    LightningIRDataModule,
    LightningIRTrainer,
    QueryDataset,
    ReRankCallback,
    RunDataset,
    SearchCallback,
    TupleDataset,
    models,
)
from lightning_ir.data import IndexBatch, RankBatch, TrainBatch
from lightning_ir.data.external_datasets.ir_datasets_utils import ScoredDocTuples, register_new_dataset
from lightning_ir.loss import InBatchCrossEntropy
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from irexp.peer.chain import Chain, run_of
from irexp.peer.training import CLIP_NORM, Training, make_optimizer
from irexp.peer.work import Encoder, Scorer, Work

#: Texts or pairs per batch, for which the library has no default: those of sentence-transformers.
_BATCH_SIZE = 32

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


def open_encoder(model: str, folder: str, query_length: int, document_length: int, device: str) -> Encoder:
    """A bi-encoder."""
    module = _new_module(model, folder, query_length, document_length).eval().to(device)

    def compute(texts: list[str], work: Work) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(texts), _BATCH_SIZE):
            batch = texts[start : start + _BATCH_SIZE]
            with torch.inference_mode():
                found = module.forward(IndexBatch([str(number) for number in range(len(batch))], batch)).doc_embeddings
            vectors = found.embeddings[:, 0] if model == "sbert" else found.embeddings[found.scoring_mask]
            parts.append(vectors.cpu().numpy())
        return np.concatenate(parts)

    return compute


def open_scorer(model: str, folder: str, query_length: int, document_length: int, device: str) -> Scorer:
    """A cross-encoder."""
    module = _new_scorer(folder, query_length, document_length).to(device)

    def compute(pairs: list[tuple[str, str]], work: Work) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(pairs), _BATCH_SIZE):
            batch = pairs[start : start + _BATCH_SIZE]
            with torch.inference_mode():
                ranked = RankBatch([query for query, _ in batch], [[text] for _, text in batch])
                parts.append(module.forward(ranked).scores.cpu().numpy())
        return np.concatenate(parts)

    return compute


def stages_of(chain: Chain) -> dict[str, Callable[[], object]]:
    """What indexes with faiss, searches and re-ranks."""
    encoder = _new_module("sbert", chain.encoder, chain.query_length, chain.document_length).eval()
    scorer = _new_scorer(chain.scorer, chain.query_length, chain.document_length)
    name = f"chain-{Path(chain.output).name}"  # a process registers a name once
    files = {part: str(Path(chain.data) / f"{part}.tsv") for part in ("docs", "queries")}
    register_new_dataset(name, **files)
    documents, queries = DocDataset(name, num_docs=chain.documents), QueryDataset(name, num_queries=chain.queries)
    index, found, final = Path(chain.output) / "index", run_of(chain, "search"), run_of(chain, "re_rank")
    named = found.with_name(f"found__{name}.run")  # the library reads the collection's name from the file's

    def run_index() -> None:
        _trainer(IndexCallback(FaissFlatIndexConfig(), index)).index(encoder, _data(documents, _BATCH_SIZE))

    def run_search() -> None:
        settings = {"save_dir": found.parent, "run_name": named.name, "use_gpu": False}
        callback = SearchCallback(FaissSearchConfig(k=chain.depth), index, **settings)
        _trainer(callback).search(encoder, _data(queries, _BATCH_SIZE))
        found.symlink_to(named)

    def run_re_rank() -> None:
        callback = ReRankCallback(save_dir=final.parent, run_name=final.name)
        _trainer(callback).re_rank(scorer, _data(RunDataset(named, depth=chain.depth), 1))

    return {"index": run_index, "search": run_search, "re_rank": run_re_rank}


def _trainer(callback: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return LightningIRTrainer(callbacks=[callback], accelerator="cpu", **quiet)


def _data(dataset: Any, batch_size: int) -> Any:
    return LightningIRDataModule(inference_datasets=[dataset], inference_batch_size=batch_size)


def _new_scorer(folder: str, query_length: int, document_length: int) -> Any:
    """A cross-encoder whose head includes BERT's pooler."""
    lengths = {"query_length": query_length, "doc_length": document_length}
    config = models.MonoConfig(**lengths, pooling_strategy="bert_pool", linear_bias=True)
    module = CrossEncoderModule(model=models.MonoModel.from_pretrained(folder, config=config)).eval()
    weights = load_file(Path(folder) / "model.safetensors")
    for ours, theirs in (("bert.pooler.dense", module.model.bert_pool[0]), ("classifier", module.model.linear)):
        theirs.weight.data, theirs.bias.data = weights[f"{ours}.weight"], weights[f"{ours}.bias"]
    return module


def train(training: Training, folder: Path) -> float:
    """Train, save, and return the loss of the probe before."""
    module = _new_module(
        training.model,
        training.initial,
        training.query_length,
        training.document_length,
        [TemperedCrossEntropy(training.temperature)],
    )
    optimizer, schedule = make_optimizer(module.parameters(), training, fused=None)
    made = {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
    module.configure_optimizers = lambda: made
    probe = training.probe()
    queries, documents = [row["query"] for row in probe], [(row["document"],) for row in probe]
    module.eval()
    with torch.no_grad():
        batch = TrainBatch(queries, documents, None, None, None, torch.ones(len(probe)))
        (found,) = module._compute_losses(batch, module.forward(batch))
    module.train()
    name = f"pairs-{folder.parent.name}"  # a process registers a name once
    register_new_dataset(name, **_files(training.pairs(), folder.parent), DocpairsType=ScoredDocTuples)
    pairs = TupleDataset(name, targets="order", num_docs=1)
    trainer = LightningIRTrainer(
        max_steps=training.steps,
        accelerator=training.device,
        gradient_clip_val=CLIP_NORM,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, LightningIRDataModule(train_dataset=pairs, train_batch_size=training.batch_size))
    module.model.save_pretrained(folder)
    module.tokenizer.save_pretrained(folder)
    return float(found)


def _new_module(model: str, folder: str, query_length: int, document_length: int, losses: Any = None) -> Any:
    """A bi-encoder from irexp's untrained model."""
    lengths = {"query_length": query_length, "doc_length": document_length}
    if model == "sbert":
        config = models.DprConfig(**lengths, normalize=True, pooling_strategy="mean", projection=None)
        return BiEncoderModule(model=models.DprModel.from_pretrained(folder, config=config), loss_functions=losses)
    config = models.ColConfig(
        **lengths,
        normalization_strategy="l2",
        add_marker_tokens=True,
        query_expansion=True,
        doc_mask_scoring_tokens="punctuation",
        projection="linear_no_bias",
    )
    module = BiEncoderModule(model=models.ColModel.from_pretrained(folder, config=config), loss_functions=losses)
    _copy_new_weights(module, Path(folder))
    return module


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
