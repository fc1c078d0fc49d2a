"""Given checkpoints that do not exist: named before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.artifact import content
from irexp.types import UserError
from tests.chains import STAGES, Compose, planned, run, settings


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that nothing may ask."""
    monkeypatch.setattr(content, "_is_hub_reachable", lambda: pytest.fail("the hub was asked"))


@pytest.mark.parametrize("setting", ["artifact.checkpoint", "artifact.initial"])
def test_a_mistyped_identifier_of_a_checkpoint_names_the_nearest_and_asks_no_hub(
    compose: Compose, tmp_path: Path, collection: Path, online: None, setting: str
) -> None:
    """One digit is missing; it was taken for a model `checkpoint/…` of the hub."""
    (tmp_path / "artifacts" / "checkpoint" / "sbert.toys-b60bb5b7").mkdir(parents=True)
    base = settings(tmp_path, collection, f"{setting}=checkpoint/sbert.toys-b60bb5b")
    with pytest.raises(UserError, match=r"there is nothing at .*; the nearest are checkpoint/sbert\.toys-b60bb5b7"):
        planned(compose, base, ["fit", "search"])


@pytest.mark.parametrize(
    "typed", ["artifact.checkpoint=nothere", "backbone=hugging_face backbone.name_or_path=nothere"]
)
def test_a_model_that_cannot_be_had_is_named_before_the_first_stage(
    compose: Compose, tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    """Else the baselines would be indexed, searched and evaluated first."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    content._is_hub_reachable.cache_clear()
    base = settings(tmp_path, collection, *typed.split())
    with pytest.raises(UserError, match=r"nothere.* cannot be fetched from the hub"):
        run(compose, base, STAGES)
    assert not (tmp_path / "artifacts").exists()
