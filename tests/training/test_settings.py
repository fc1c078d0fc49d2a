"""Settings of a training that do not go together are refused in one line, without a model or examples."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import pytest
import torch

from irexp.config.schema import FalseNegatives
from irexp.loss.contrastive_local import ContrastiveLocal
from irexp.loss.info_nce import InfoNCE
from irexp.loss.kl_divergence import KLDivergence
from irexp.loss.rank_net import RankNet
from irexp.loss.weighted_sum import WeightedSum
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.mono import Mono
from irexp.pipeline.component import component
from irexp.training.settings import check_settings
from irexp.types import UserError

SHARDED = {"strategy": "fsdp", "devices": 2}
ZERO = {"strategy": "deepspeed", "devices": 2}


def check(**changes: Any) -> None:
    """Check SBERT with InfoNCE and changes; the family and the loss are among them."""
    usual: dict[str, Any] = {
        "family": DenseBiEncoder,
        "loss": InfoNCE(),
        "regularizer": None,
        "false_negatives": FalseNegatives(),
        "training": component("training"),
        "machine": component("machine"),
        "optimizer": component("optimizer"),
        "is_taught": False,
    }
    check_settings(**usual | changes)


def test_what_goes_together_is_accepted() -> None:
    """The default, and what looks alike to what is refused."""
    check()
    check(family=None, regularizer=component("regularizer", "flops"))  # only the checkpoint tells
    check(loss=KLDivergence(), is_taught=True)
    check(loss=WeightedSum({"a": InfoNCE(), "b": KLDivergence()}), is_taught=True)
    check(machine=component("machine", devices=2), training=component("training", accumulate_batches=4))
    check(training=component("training", steps=None, epochs=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": Mono}, "needs in-batch negatives, but a cross-encoder"),
        ({"loss": ContrastiveLocal()}, "a DenseBiEncoder has no viewers; set model=mvr"),
        (
            {"family": Mono, "loss": RankNet(), "regularizer": component("regularizer", "l1")},
            "a cross-encoder does not",
        ),
        ({"family": ColBERT, "regularizer": component("regularizer", "flops")}, "a ColBERT has one per token"),
        ({"is_taught": True}, "InfoNCE learns nothing from a teacher's scores"),
        ({"loss": RankNet(), "false_negatives": FalseNegatives(margin=0.1)}, "each query with its own alone; set"),
        ({"training": component("training", epochs=2)}, "set one of them, and the other to null"),
        ({"training": component("training", accumulate_batches=5)}, "must be a multiple of 5"),
        ({"machine": component("machine", devices=3)}, "must be a multiple of 3"),
        ({"optimizer": partial(torch.optim.AdamW, betas=(2.0, 0.9))}, "refuses its settings: Invalid beta"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    """Each names what to set instead."""
    with pytest.raises(UserError, match=message) as error:
        check(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("machine", "training", "optimizer", "message"),
    [
        ({"strategy": "fsdp"}, {}, "adamw", r"there is one; set machine\.devices"),
        ({"strategy": "deepspeed"}, {}, "adamw", r"there is one; set machine\.devices"),
        (SHARDED, {"ema_decay": 0.9}, "adamw", r"^training\.ema_decay does not work with"),
        (SHARDED, {"precision": "16-mixed"}, "adamw", r"^training\.precision=16-mixed does not work"),
        (SHARDED | {"compile": True}, {}, "adamw", r"^machine\.compile=true does not work"),
        (SHARDED, {}, "adamw_8bit", r"^optimizer=adamw_8bit does not work"),
        (ZERO | {"strategy": "deepspeed_stage_3"}, {"ema_decay": 0.9}, "adamw", r"^training\.ema_decay does not work"),
        (ZERO, {"precision": "16-mixed"}, "adamw", r"^training\.precision=16-mixed does not work with .*deepspeed"),
        (ZERO, {"ema_decay": 0.9}, "adamw", r"needs the package deepspeed: pip install .*\[deepspeed\]"),
    ],
)
def test_a_strategy_that_cannot_be_used_is_refused(
    machine: dict[str, Any], training: dict[str, Any], optimizer: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, before anything is started, with what to set instead; where deepspeed is not installed."""
    chosen = component("optimizer", optimizer)
    settings = {"machine": component("machine", **machine), "training": component("training", **training)}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=message) as error:
        check(**settings, optimizer=chosen)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("strategy", ["ddp", "deepspeed_stage_1"])
def test_a_strategy_that_is_not_known_is_refused(strategy: str) -> None:
    """Lightning's ddp would start run.py again for each device; others gather no weights."""
    with pytest.raises(UserError, match=f"machine.strategy: '{strategy}' is not a choice; "):
        component("machine", strategy=strategy)
