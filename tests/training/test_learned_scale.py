"""A learned scale is trained and resumed with the model, and the parts of a sum are logged."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hydra.utils import instantiate

from irexp.loss.info_nce import InfoNCE
from irexp.loss.kl_divergence import KLDivergence
from irexp.loss.learned import LEARNED, continue_from
from irexp.loss.loss import Loss
from irexp.loss.weighted_sum import WeightedSum
from irexp.training.batch import Batch, Batches, PairBatch
from irexp.training.callbacks import read_history
from irexp.types import UserError
from tests.training.eight import Eight
from tests.training.test_losses_and_families import TAUGHT
from tests.trainings import SMALL, Compose, assert_equal, weights


class KilledError(Exception):
    """Stands for the death of a process."""


def train(compose: Compose, folder: Path, loss: Loss, initial: Path | None = None) -> None:
    """Ten steps over two queries with a teacher's scores, by the stage."""
    folder.mkdir(exist_ok=True)
    settings = ("training.validate_every=null", "training.steps=10", "training.batch_size=2", "model=sbert")
    call = instantiate(compose(*SMALL, *settings).stage.fit, _convert_="object")
    call(folder, initial=initial, documents=Eight(), train=TAUGHT, dev=None, loss=loss)


def summed() -> tuple[WeightedSum, KLDivergence]:
    """A sum of a loss over lists, whose scale is learned, and one over the batch; and the former."""
    divergence = KLDivergence(scale=2.0, learn_scale=True)
    return WeightedSum({"kl": divergence, "nce": InfoNCE()}, weights={"nce": 0.1}), divergence


def test_a_resumed_training_ends_with_the_scale_and_weights_of_an_uninterrupted_one(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale is in the state of the training, moves by its own learning rate, and is not one of the weights."""
    (whole, whole_kl), (_, first_kl), (resumed, resumed_kl) = summed(), summed(), summed()
    train(compose, tmp_path / "whole", whole)
    assert abs(whole_kl.scale.value / first_kl.scale.value - 1) > 0.01
    assert not any("scale" in name for name in weights(tmp_path / "whole"))
    make = Batches.__getitem__

    def dies(self: Batches, number: int) -> Batch | PairBatch:
        if number == 6:
            raise KilledError
        return make(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__getitem__", dies)
        with pytest.raises(KilledError):
            train(compose, tmp_path / "killed", summed()[0])
    train(compose, tmp_path / "killed", resumed)
    assert resumed_kl.scale.value == whole_kl.scale.value
    assert_equal(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    rows = {row["name"]: float(row["value"]) for row in read_history(tmp_path / "whole" / "history.csv")}
    assert rows["train/loss"] == pytest.approx(rows["train/kl"] + 0.1 * rows["train/nce"], rel=1e-4)


def test_a_second_round_begins_with_the_scale_that_the_first_one_learnt(compose: Compose, tmp_path: Path) -> None:
    """It moves on from there, whatever loss.scale says; a constant one and that of a new training are as they were."""
    loss, divergence = summed()
    train(compose, tmp_path / "first", loss)
    ended = divergence.scale.value
    (again, continued), fresh = summed(), KLDivergence(scale=2.0, learn_scale=True)
    continue_from(again, tmp_path / "first")
    assert continued.scale.value == pytest.approx(ended)
    continue_from(fresh, tmp_path / "none")
    assert fresh.scale.value == pytest.approx(2.0)
    constant = KLDivergence(scale=2.0)
    continue_from(constant, tmp_path / "first")
    assert constant.scale.value == 2.0
    train(compose, tmp_path / "second", fresh, initial=tmp_path / "first")
    assert abs(math.log(fresh.scale.value / ended)) < abs(math.log(fresh.scale.value / 2.0))


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"scale": {"KLDivergence": 0}}', '{"scale": {"KLDivergence": null}}', "{}"]
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    """The error says how to begin without it."""
    (tmp_path / LEARNED).write_text(text)
    with pytest.raises(UserError, match=r"loss\.json is damaged"):
        continue_from(KLDivergence(learn_scale=True), tmp_path)
