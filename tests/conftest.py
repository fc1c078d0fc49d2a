"""Fixtures of several tests: composed configurations, tiny transformers, a small collection."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.config.composition import composed_config
from irexp.config.installation import CONF
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from irexp.index import seismic
from tests import tiny
from tests.chains import write_collection

torch.set_num_threads(1)  # each worker of pytest has one core
register_resolvers()
register_schema()

Compose = Callable[..., DictConfig]


@pytest.fixture(autouse=True)
def _same_in_any_order() -> None:
    """Reset what a test before may have left: the threads, on which last bits depend, and the random generators."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # of other libraries
    random.seed(0)


@pytest.fixture(autouse=True)
def _skips_without_seismic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no wheel of Seismic's package, what needs it is skipped when it comes to it."""
    if importlib.util.find_spec("seismic") is None:
        monkeypatch.setattr(seismic, "_package", lambda: pytest.skip("pyseismic-lsr has no wheel for this platform"))


@pytest.fixture
def compose() -> Compose:
    """Composes the real configuration with overrides, as `run.py` does, but open to changes."""

    def _compose(*overrides: str) -> DictConfig:
        config, _ = composed_config(overrides, str(CONF))
        OmegaConf.set_struct(config, False)
        return config

    return _compose


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny transformer of each kind."""
    return {
        "encoder": tiny.bert(tmp_path_factory.mktemp("bert"), "BertForMaskedLM"),
        "t5": tiny.t5(tmp_path_factory.mktemp("t5")),
        "decoder": tiny.decoder(tmp_path_factory.mktemp("decoder")),
    }


@pytest.fixture(scope="session")
def backbones(folders: dict[str, Path]) -> dict[str, HuggingFaceBackbone]:
    """The tiny transformers as backbones."""
    return {kind: HuggingFaceBackbone(str(folder)) for kind, folder in folders.items()}


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A dozen documents in BEIR's layout; two test queries, one whose relevant document does not exist."""
    queries = {"d0": "make cups", "q2": "zzz"}
    return write_collection(tmp_path / "toys", queries, {"test": "d0\td0\t1\nd0\td3\t1\nq2\tgone\t1\n"})
