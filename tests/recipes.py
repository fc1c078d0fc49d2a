"""Stand-ins for what the recipes read from a network: a few lines of each collection, and a tiny model of each layout.

They lie where downloads are kept, in the hub's cache and in ir_datasets' registry, and are read as those are.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ir_datasets
import pytest
import torch
from ir_datasets.formats import TrecQrels, TrecScoredDocs, TsvDocPairs, TsvDocs, TsvQueries
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer

from tests import home, tiny
from tests.chains import TEXTS
from tests.irds import LocalFile

CHECKPOINTS = Path(__file__).parent / "data" / "checkpoint"

#: A collection of a dozen documents: its parts in the files of MS MARCO and of TREC.
LINES = {
    "docs": "".join(f"{number}\t{text}\n" for number, text in enumerate(TEXTS)),
    "queries": "q1\tmake a cup\nq2\tlist a tree\nq3\tcopy a song\n",
    "qrels": "q1 0 0 3\nq1 0 3 2\nq2 0 4 2\nq2 0 1 1\nq3 0 11 2\n",
    "scoreddocs": "".join(f"q{query} Q0 {doc} {doc + 1} 0 x\n" for query in (1, 2, 3) for doc in range(len(TEXTS))),
    "docpairs": "q1\t0\t5\nq2\t4\t7\nq3\t11\t2\n",
}

#: Training files that ir_datasets does not have, over the same documents: `{folder}` is where they are written.
FILES = {
    "negatives.jsonl": "".join(
        f'{{"qid": "q{query}", "pos": ["{doc}"], "neg": {{"bm25": ["5", "6", "7"], "other": ["8", "9"]}}}}\n'
        for query, doc in ((1, 0), (2, 4), (3, 11))
    ),
    "scores.jsonl": "".join(
        f'["q{query}", {{"{doc}": 9.5, "5": 1.5, "6": 0.5, "7": -2.0, "8": -3.5, "9": -4.0}}]\n'
        for query, doc in ((1, 0), (2, 4), (3, 11))
    ),
    "lists.json": "".join(
        f'["q{query}", ["{doc}", 9.5], ["5", 1.5], ["6", 0.5], ["7", -2.0]]\n'
        for query, doc in ((1, 0), (2, 4), (3, 11))
    ),
    "scored.run": "".join(
        f"q{query} Q0 {doc} {doc + 1} {8 - 2 * doc} x\n" for query in (1, 2, 3) for doc in range(len(TEXTS))
    ),
}

#: What a recipe is given to train on, with the above files.
_MINED = ["dataset.train.path={folder}/negatives.jsonl", "dataset.train.scores_path={folder}/scores.jsonl"]
_RUNS = ["dataset.path={folder}/scored.run", "dataset.train.run.path={folder}/scored.run"]
TYPED = {
    **dict.fromkeys(["train_sbert", "train_splade", "train_splade_v3"], _MINED),
    **dict.fromkeys(["train_mono_electra", "train_set_encoder"], _RUNS),
    "train_colbert": ["dataset.train.path={folder}/lists.json"],
    "train_lightning_ir": ["dataset.train.run.path={folder}/scored.run"],
}


def write_files(folder: Path) -> None:
    """Write the training files."""
    folder.mkdir()
    for name, lines in FILES.items():
        (folder / name).write_text(lines, encoding="utf8")


_PARTS: dict[str, Callable[[LocalFile], object]] = {
    "docs": lambda file: TsvDocs(file, namespace="irexp", lang="en"),
    "queries": lambda file: TsvQueries(file, namespace="irexp", lang="en"),
    "qrels": lambda file: TrecQrels(file, {1: "related", 2: "relevant", 3: "perfectly relevant"}),
    "scoreddocs": TrecScoredDocs,
    "docpairs": TsvDocPairs,
}


@contextmanager
def collections(folder: Path, ids: list[str]) -> Iterator[None]:
    """Register the dozen documents under ids of ir_datasets, until the end of the context."""
    folder.mkdir()
    for name, lines in LINES.items():
        (folder / name).write_text(lines, encoding="utf8")
    parts = [make(LocalFile(folder / name)) for name, make in _PARTS.items()]
    with pytest.MonkeyPatch.context() as patch:
        for dataset_id in ids:
            patch.setitem(ir_datasets.registry._registered, dataset_id, ir_datasets.Dataset(*parts))
        yield


def use_models(cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Let a cache of the hub be the only source of models."""
    patch.setenv("HF_HUB_CACHE", str(cache))
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def write_models(cache: Path) -> None:
    """Fill a cache of the hub with a tiny model for each name that a recipe has."""
    for name, make in _MODELS.items():
        commit = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
        repository = cache / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        make(repository / "snapshots" / commit)


def _copied(name: str) -> Callable[[Path], None]:
    """Copies a checkpoint that its own library saved."""

    def copy(folder: Path) -> None:
        shutil.copytree(CHECKPOINTS / name, folder)
        _lengthen(folder)

    return copy


def _lengthen(folder: Path) -> None:
    """Let a BERT read 512 tokens, as the published models do: its positions are repeated."""
    state = load_file(folder / "model.safetensors")
    (name,) = (name for name in state if name.endswith("position_embeddings.weight"))
    state[name] = state[name].repeat(512 // len(state[name]), 1)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    home.edit(folder / "config.json", max_position_embeddings=512)
    home.edit(folder / "tokenizer_config.json", model_max_length=512)


def _dense(folder: Path) -> None:
    """A model of sentence-transformers, with mean pooling."""
    base = tiny.long_bert(folder.parent / "base")
    SentenceTransformer(modules=home.dense(base)).save(str(folder))
    shutil.rmtree(base)


def _cross_encoder(folder: Path) -> None:
    """A cross-encoder of sentence-transformers."""
    base = tiny.long_bert(folder.parent / "base", "BertForSequenceClassification", num_labels=1)
    CrossEncoder(str(base), device="cpu").save(str(folder))
    shutil.rmtree(base)


def _splade(folder: Path) -> None:
    """A masked language model, which is also a backbone."""
    tiny.long_bert(folder, "BertForMaskedLM")


def _decoder(folder: Path) -> None:
    """A decoder that reads 512 tokens."""
    tiny.decoder(folder)
    home.edit(folder / "config.json", max_position_embeddings=512)
    home.edit(folder / "tokenizer_config.json", model_max_length=512)


def _t5(folder: Path) -> None:
    """A T5 with its language-modelling head."""
    tiny.t5(folder)


def _xtr(folder: Path) -> None:
    """A T5 encoder with a projection."""
    tiny.t5(folder, "T5EncoderModel")
    (folder / "2_Dense").mkdir()
    torch.save({"linear.weight": torch.randn(4, 16)}, folder / "2_Dense" / "pytorch_model.bin")


#: The models of sentence-transformers.
_DENSE = [
    *("all-MiniLM-L6-v2", "all-mpnet-base-v2", "msmarco-bert-base-dot-v5", "msmarco-distilbert-dot-v5"),
    *("msmarco-distilbert-base-tas-b", "msmarco-distilbert-cos-v5", "msmarco-MiniLM-L12-cos-v5"),
    "msmarco-MiniLM-L6-cos-v5",
]
_CROSS = ["MiniLM-L12-v2", "MiniLM-L6-v2", "MiniLM-L4-v2", "MiniLM-L2-v2", "TinyBERT-L2-v2", "electra-base"]

_MODELS: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys(["webis/monoelectra-base", "webis/monoelectra-large"], _copied("lir_mono")),
    **dict.fromkeys(["webis/set-encoder-base", "webis/set-encoder-large"], _copied("set_encoder")),
    **dict.fromkeys((f"castorini/monot5-{size}-msmarco" for size in ("base", "large", "3b")), _t5),
    **dict.fromkeys((f"Soyoung97/RankT5-{size}" for size in ("base", "large", "3b")), _t5),
    **dict.fromkeys((f"sentence-transformers/{name}" for name in _DENSE), _dense),
    **dict.fromkeys((f"cross-encoder/ms-marco-{name}" for name in _CROSS), _cross_encoder),
    "BAAI/bge-base-en-v1.5": _dense,
    "webis/bert-bi-encoder": _copied("lir_dpr"),
    "webis/splade": _copied("lir_splade"),
    "webis/colbert": _copied("lir_col"),
    "colbert-ir/colbertv2.0": _copied("stanford"),
    "lightonai/GTE-ModernColBERT-v1": _copied("pylate"),
    **dict.fromkeys(["google-bert/bert-base-uncased", "google/electra-base-discriminator"], _splade),
    **dict.fromkeys(["naver/splade-v3", "Luyu/co-condenser-marco"], _splade),
    **dict.fromkeys(["naver/splade-cocondenser-selfdistil", "naver/splade-cocondenser-ensembledistil"], _splade),
    "colbert-ir/colbertv1.9": _copied("stanford"),
    "Qwen/Qwen3-0.6B": _decoder,
    "google/xtr-base-en": _xtr,
}
