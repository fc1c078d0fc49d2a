"""Every recipe that needs a network plans without one, and lists exactly what stage=prepare would fetch for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.artifact.experiment import Experiment
from irexp.stage.prepare import prepare
from tests.chains import Compose
from tests.recipes import TYPED
from tests.test_experiments import NAMES, VASWANI

#: The parts of a collection of ir_datasets.
_TOPICS = ("queries", "qrels")
_DL = ("msmarco-passage/trec-dl-2019/judged", "msmarco-passage/trec-dl-2020/judged")
_TRAINED_ON = {"msmarco-passage/train": _TOPICS, "msmarco-passage/train/split200-valid": _TOPICS}
_SEARCHED = {"msmarco-passage": ("docs",), **dict.fromkeys(_DL, _TOPICS)}
_DEVELOPMENT = {"msmarco-passage/dev/small": _TOPICS}

#: Recipe → names on the hub, and parts by id of ir_datasets.
NEEDED: dict[str, tuple[list[str], dict[str, tuple[str, ...]]]] = {
    "lightning_ir_table_2": (
        [
            "Soyoung97/RankT5-3b",
            "Soyoung97/RankT5-base",
            "Soyoung97/RankT5-large",
            "castorini/monot5-3b-msmarco",
            "castorini/monot5-base-msmarco",
            "castorini/monot5-large-msmarco",
            "colbert-ir/colbertv2.0",
            "google/xtr-base-en",
            "lightonai/GTE-ModernColBERT-v1",
            "naver/splade-v3",
            "sentence-transformers/msmarco-bert-base-dot-v5",
            "webis/bert-bi-encoder",
            "webis/colbert",
            "webis/monoelectra-base",
            "webis/monoelectra-large",
            "webis/splade",
        ],
        {"msmarco-passage": ("docs",), **dict.fromkeys(_DL, (*_TOPICS, "scoreddocs"))},
    ),
    "lightning_ir_table_3": (
        [
            "colbert-ir/colbertv2.0",
            "naver/splade-v3",
            "sentence-transformers/msmarco-bert-base-dot-v5",
            "webis/bert-bi-encoder",
            "webis/colbert",
            "webis/splade",
        ],
        _SEARCHED,
    ),
    "sentence_transformers_msmarco": (
        [
            "cross-encoder/ms-marco-MiniLM-L12-v2",
            "cross-encoder/ms-marco-MiniLM-L2-v2",
            "cross-encoder/ms-marco-MiniLM-L4-v2",
            "cross-encoder/ms-marco-MiniLM-L6-v2",
            "cross-encoder/ms-marco-TinyBERT-L2-v2",
            "cross-encoder/ms-marco-electra-base",
            "sentence-transformers/msmarco-MiniLM-L12-cos-v5",
            "sentence-transformers/msmarco-MiniLM-L6-cos-v5",
            "sentence-transformers/msmarco-bert-base-dot-v5",
            "sentence-transformers/msmarco-distilbert-base-tas-b",
            "sentence-transformers/msmarco-distilbert-cos-v5",
            "sentence-transformers/msmarco-distilbert-dot-v5",
        ],
        {"msmarco-passage": ("docs",), **dict.fromkeys(_DL, (*_TOPICS, "scoreddocs"))},
    ),
    "pyserini_bm25": ([], _SEARCHED | _DEVELOPMENT),
    "pyserini_splade": (
        ["naver/splade-cocondenser-ensembledistil", "naver/splade-cocondenser-selfdistil", "naver/splade-v3"],
        _SEARCHED | _DEVELOPMENT,
    ),
    "rank_distillm": (
        [
            "colbert-ir/colbertv2.0",
            "webis/monoelectra-base",
            "webis/monoelectra-large",
            "webis/set-encoder-base",
            "webis/set-encoder-large",
        ],
        _SEARCHED,
    ),
    "nano_beir_re_rank": (
        ["cross-encoder/ms-marco-MiniLM-L6-v2"],
        dict.fromkeys(("nano-beir/msmarco", "nano-beir/nfcorpus", "nano-beir/nq"), ("docs", *_TOPICS)),
    ),
    "hybrid_beir": (
        ["BAAI/bge-base-en-v1.5"],
        {
            **dict.fromkeys(("beir/arguana", "beir/trec-covid"), ("docs", *_TOPICS)),
            **dict.fromkeys(("beir/fiqa", "beir/nfcorpus", "beir/scifact"), ("docs",)),
            **dict.fromkeys(("beir/fiqa/test", "beir/nfcorpus/test", "beir/scifact/test"), _TOPICS),
        },
    ),
    "vaswani_zero_shot": ([], {"vaswani": ("docs", *_TOPICS)}),
    "engines": ([], {"vaswani": ("docs", *_TOPICS)}),
    "train_colbert": (["colbert-ir/colbertv1.9", "colbert-ir/colbertv2.0"], _SEARCHED | _TRAINED_ON),
    "train_lightning_ir": (
        ["google-bert/bert-base-uncased", "webis/bert-bi-encoder", "webis/colbert", "webis/splade"],
        _SEARCHED | _TRAINED_ON,
    ),
    "train_mono_electra": (
        ["google/electra-base-discriminator", "webis/monoelectra-base"],
        _SEARCHED | _TRAINED_ON,
    ),
    "train_repllama": (
        ["Qwen/Qwen3-0.6B"],
        {
            **_SEARCHED,
            "msmarco-passage/train/triples-small": ("queries", "docpairs"),
            "msmarco-passage/train/split200-valid": _TOPICS,
        },
    ),
    "train_sbert": (
        ["google-bert/bert-base-uncased", "sentence-transformers/msmarco-bert-base-dot-v5"],
        _SEARCHED | _TRAINED_ON,
    ),
    "train_set_encoder": (
        ["google/electra-base-discriminator", "webis/set-encoder-base"],
        _SEARCHED | _TRAINED_ON,
    ),
    "train_splade": (
        ["Luyu/co-condenser-marco", "naver/splade-cocondenser-ensembledistil"],
        _SEARCHED | _TRAINED_ON,
    ),
    "train_splade_v3": (["naver/splade-cocondenser-selfdistil", "naver/splade-v3"], _SEARCHED | _TRAINED_ON),
}

#: Recipes on the embedded collection, which need nothing, and two whose plans take long; tests/test_recipes.py has all.
OTHERS = ["beir", "cascade", "embedded", "families", "hard_negatives", "hybrid", "nano_beir", "sbert_splade_colbert"]

#: The recipes that every change is tested with; a plan takes a third of a second per cell and more.
FAST = {"lightning_ir_table_2", "lightning_ir_table_3", "vaswani_zero_shot"}


def listed(compose: Compose, tmp_path: Path, name: str, *more: str) -> list[str]:
    """What stage=prepare lists for a recipe, but for files that the user names."""
    files = [override.format(folder=tmp_path) for override in TYPED.get(name, [])]
    typed = (f"experiment={name}", *files, *more, f"paths.artifacts={tmp_path / 'artifacts'}", "stage=prepare")
    lines = prepare(tmp_path, Experiment(typed, compose(*typed)), dry_run=True)
    assert not (tmp_path / "artifacts").exists()
    return sorted(line for _, _, line in lines if " of ir_datasets" in line or " of the hub" in line)


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of the hub, which is not reached."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in sorted(NEEDED)]
)
def test_a_recipe_lists_what_it_would_fetch(compose: Compose, tmp_path: Path, name: str) -> None:
    """Exactly these models and parts of collections, whether or not they are on this machine."""
    models, parts = NEEDED[name]
    expected = [f"{model} of the hub" for model in models]
    expected += [f"{key} of ir_datasets, {part}" for key, found in parts.items() for part in found]
    assert listed(compose, tmp_path, name) == sorted(expected)


def test_every_recipe_is_listed_here() -> None:
    """A new recipe names what it needs."""
    assert sorted([*NEEDED, *OTHERS]) == NAMES


def test_the_embedded_experiment_fetches_nothing(compose: Compose, tmp_path: Path) -> None:
    """Nor does it name a model of the hub."""
    assert listed(compose, tmp_path, "embedded") == []


@pytest.mark.skipif(not VASWANI.is_dir(), reason="the Vaswani collection is not next to this checkout")
def test_the_three_models_plan_on_a_folder(compose: Compose, tmp_path: Path) -> None:
    """The line in the README of sbert_splade_colbert for a collection without training queries."""
    folder = ("dataset=local", f"dataset.path={VASWANI}", "training=none")
    assert listed(compose, tmp_path, "sbert_splade_colbert", *folder) == []
