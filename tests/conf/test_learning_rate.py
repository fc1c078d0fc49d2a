"""The learning rate of a training: what is typed, else the preset's, else the model's own, else the default."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

CONF = Path(__file__).parents[2] / "conf"

#: Presets that are for any backbone, and leave the learning rate to the model.
FOR_ANY = {"default", "short", "none"}
PRESETS = sorted(path.stem for path in (CONF / "training").glob("*.yaml"))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], 7e-4),
        (["model=splade"], 2e-4),
        (["model=splade_doc", "training=default"], 2e-4),
        (["model=splade", "training=short"], 2e-4),
        (["model=splade", "training=bert_base"], 2e-5),
        (["training=bert_base", "model=splade"], 2e-5),
        (["training=bert_base", "model=splade", "training.learning_rate=3e-5"], 3e-5),
        (["model=splade", "training.learning_rate=3e-5"], 3e-5),
    ],
)
def test_a_preset_wins_over_the_model_and_what_is_typed_over_both(
    overrides: list[str], expected: float, compose: Callable[..., DictConfig]
) -> None:
    """SPLADE's rate suits a tiny backbone, and would spoil the one that a preset is made for."""
    assert compose(*overrides).training.learning_rate == expected


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset not in FOR_ANY])
def test_a_preset_for_a_backbone_has_the_same_learning_rate_for_every_model(
    preset: str, compose: Callable[..., DictConfig]
) -> None:
    """A preset that sets none would train its large backbone at the rate of a tiny one."""
    rates = {compose(f"training={preset}", f"model={model}").training.learning_rate for model in ("sbert", "splade")}
    assert len(rates) == 1 and max(rates) <= 1e-4


def test_all_presets_are_tested() -> None:
    """The test above would be empty if the folder were not found."""
    assert set(PRESETS) > FOR_ANY and len(PRESETS) >= 10
