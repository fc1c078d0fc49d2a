"""Helpers that train the offline backbone for a few steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from safetensors.torch import load_file

SMALL = (
    "training.steps=4",
    "training.batch_size=8",
    "training.validate_every=2",
    "training.validation_documents=150",
    "training.validation_queries=40",
    "machine.resume_every=1",
    "machine.progress=false",
    "machine.threads=1",
)

Compose = Callable[..., DictConfig]


def fit(compose: Compose, folder: Path, *overrides: str) -> dict[str, float]:
    """Run the stage as run.py does."""
    folder.mkdir(exist_ok=True)
    call = instantiate(compose(*SMALL, *overrides).stage.fit, _convert_="object")
    measures: dict[str, float] = call(folder)
    return measures


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The saved weights."""
    return load_file(folder / "model.safetensors")


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Assert that all weights are bitwise equal."""
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def write_toys(folder: Path) -> Path:
    """Six queries with one document each, in BEIR's layout; the last query's relevant document does not exist."""
    (folder / "qrels").mkdir(parents=True)
    for name, kind in (("corpus.jsonl", "d"), ("queries.jsonl", "q")):
        lines = [json.dumps({"_id": f"{kind}{i}", "text": f"{TOYS[i]} {kind}"}) for i in range(6)]
        (folder / name).write_text("\n".join(lines) + "\n")
    judgements = "".join(f"q{i}\td{i}\t1\n" for i in range(5)) + "q5\tgone\t1\n"
    for name in ("train.tsv", "dev.tsv"):
        (folder / "qrels" / name).write_text("query-id\tcorpus-id\tscore\n" + judgements)
    return folder


TOYS = ("red cups", "tall trees", "old songs", "fast cars", "deep lakes", "cold soups")
