"""Without a network, a plan waits once for the hub, not for every model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from irexp.artifact import content
from irexp.artifact.content import fetch_revision
from tests.irds import UNREACHABLE, served


@pytest.fixture(autouse=True)
def _online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty cache, and no answer yet to whether the hub can be reached."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    content._is_hub_reachable.cache_clear()
    yield
    content._is_hub_reachable.cache_clear()


def test_models_are_planned_at_once_where_the_hub_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's client would try for 25 seconds per model."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", UNREACHABLE)
    start = time.monotonic()
    for name in ("owner/one", "owner/two"):
        fetch_revision(name, root=tmp_path)
    assert time.monotonic() - start < 10
    assert not (tmp_path / "hub").exists()


def test_a_hub_that_answers_is_reachable_and_offline_mode_asks_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the answer is an error."""
    with served(tmp_path) as url:
        for path in ("", "/nothing"):
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"{url}{path}")
            content._is_hub_reachable.cache_clear()
            assert content._is_hub_reachable()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        content._is_hub_reachable.cache_clear()
        assert not content._is_hub_reachable()
