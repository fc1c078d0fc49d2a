"""Large batches and backbones, in whole trainings: exact resuming, and the looks before a training."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from irexp.model.load import load
from irexp.training.batch import Batch, Batches, PairBatch
from irexp.training.callbacks import read_history
from irexp.types import UserError
from tests import tiny
from tests.training.test_quantization import needs_bitsandbytes
from tests.trainings import SMALL, Compose, assert_equal, fit, weights

#: Texts short enough for a quick step.
SHORT = ("dataset.query_length=8", "dataset.document_length=24")


class Stopped(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    "more",
    [
        ("training.chunk_size=3", "schedule=constant", "training.layer_decay=0.9", "training.head_learning_rate=1e-3"),
        pytest.param(("training.ema_decay=0.7", "training.accumulate_batches=2"), marks=pytest.mark.slow),
        pytest.param(
            ("training.length_buckets=2", "schedule=cosine", "training.frozen_layers=1"), marks=pytest.mark.slow
        ),
        ("training.ema_decay=0.9", "training.chunk_size=4", "training.length_buckets=3", "schedule=cosine_restarts"),
        pytest.param(("adapter=lora", "training.quantization=4bit"), marks=needs_bitsandbytes),
    ],
    ids=["GradCache and parameter groups", "average", "buckets", "all", "QLoRA"],
)
def test_a_training_that_stops_and_is_resumed_equals_an_uninterrupted_one(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    """Weights, history and best validation are bitwise equal; the stop comes after at least one saved step."""
    more = (*SHORT, *more)
    measures = fit(compose, tmp_path / "whole", *more)
    make = Batches.__getitem__
    last = 7 if "training.accumulate_batches=2" in more else 3

    def stops(self: Batches, number: int) -> Batch | PairBatch:
        if number == last:
            raise Stopped
        return make(self, number)

    monkeypatch.setattr(Batches, "__getitem__", stops)
    with pytest.raises(Stopped):
        fit(compose, tmp_path / "stopped", *more)
    monkeypatch.setattr(Batches, "__getitem__", make)
    assert (tmp_path / "stopped" / ".training" / "last.ckpt").is_file()
    assert fit(compose, tmp_path / "stopped", *more) == measures
    assert_equal(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))
    assert read_history(tmp_path / "stopped" / "history.csv") == read_history(tmp_path / "whole" / "history.csv")


def test_the_validated_and_saved_weights_are_the_average(compose: Compose, tmp_path: Path) -> None:
    """The weights after none, one and two steps, averaged by the formula, with and without validation."""
    more = (*SHORT, "schedule=constant", "training.validate_every=null")
    for steps in (0, 1, 2):
        fit(compose, tmp_path / str(steps), *more, f"training.steps={steps}")
    expected = weights(tmp_path / "0")
    for steps, decay in ((1, 2 / 11), (2, 3 / 12)):
        after = weights(tmp_path / str(steps))
        expected = {key: decay * value + (1 - decay) * after[key] for key, value in expected.items()}
    averaged = (*more, "training.steps=2", "training.ema_decay=0.99")
    fit(compose, tmp_path / "last", *averaged)
    fit(compose, tmp_path / "best", *averaged, "training.validate_every=2")
    for name in ("last", "best"):
        found = weights(tmp_path / name)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)
    fit(compose, tmp_path / "raw", *more, "training.steps=2", "training.validate_every=2")
    validated = [read_history(tmp_path / name / "history.csv")[-1] for name in ("best", "raw")]
    assert validated[0]["name"] == validated[1]["name"] == "validation/nDCG@10"
    assert validated[0]["value"] != validated[1]["value"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_compiled_transformers_learn_the_same(compose: Compose, tmp_path: Path) -> None:
    """Weights after two steps differ by rounding only, and the saved model is an ordinary one; dropout is another."""
    small = tiny.bert(tmp_path / "bert", num_hidden_layers=1, initializer_range=0.02)  # each layer is compiled
    backbone = ("backbone=hugging_face", f"backbone.name_or_path={small}")
    more = (*SHORT, *backbone, "training.steps=2", "training.validate_every=null", "training.learning_rate=1e-5")
    fit(compose, tmp_path / "plain", *more)
    fit(compose, tmp_path / "compiled", *more, "machine.compile=true")
    one, two = weights(tmp_path / "plain"), weights(tmp_path / "compiled")
    assert one.keys() == two.keys()
    assert max(float((one[key] - two[key]).abs().max()) for key in one) <= 4.1e-5  # Adam moves 1e-5 per step
    assert load(tmp_path / "compiled").score("red cups", ["a cup"]).shape == (1,)


def run(compose: Compose, folder: Path, stage: str, *overrides: str) -> dict[str, float]:
    """Call a stage that only tries a training."""
    call = instantiate(compose(*SMALL, *SHORT, f"stage={stage}", *overrides).stage[stage], _convert_="object")
    found: dict[str, float] = call(folder)
    return found


def test_overfit_says_whether_one_batch_can_be_learnt(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The loss of a batch falls by more than half at a usual learning rate, not at a tiny one; nothing is written."""
    with caplog.at_level(logging.INFO):
        found = run(compose, tmp_path, "overfit", "schedule=constant", "training.batch_size=4")
        assert found["last"] < found["first"] / 2
        assert "overfit: the loss of one batch fell from" in caplog.text
        found = run(compose, tmp_path, "overfit", "training.learning_rate=1e-9", "training.batch_size=4")
    assert found["last"] > found["first"] / 2
    assert "should have fallen by half" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_find_lr_suggests_a_rate_at_which_the_loss_falls(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a tenth of the rate of the smallest loss, which lies below the highest rate."""
    with caplog.at_level(logging.INFO):
        found = run(compose, tmp_path, "find_lr", "training.clip_norm=null")
    assert 1e-6 < found["smallest_loss_at"] < 1.0
    assert found["learning_rate"] == pytest.approx(found["smallest_loss_at"] / 10)
    assert f"training.learning_rate={found['learning_rate']:.1e} suggested" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_of_the_optimizer_is_an_error_before_the_first_validation(
    compose: Compose, tmp_path: Path
) -> None:
    """Nothing is in the history yet."""
    for more, message in (
        ("optimizer=adamw_8bit", "optimizer=adamw_8bit needs"),
        ("training.frozen_layers=9", r"the backbone has 2 layers"),
    ):
        with pytest.raises(UserError, match=message):
            fit(compose, tmp_path / more.partition("=")[0], *SHORT, more)
        assert not (tmp_path / more.partition("=")[0] / "history.csv").exists()
