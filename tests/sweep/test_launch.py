"""Worker processes share the processors that the sweep may use, not those of the whole machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from irexp.sweep import launch
from irexp.sweep.make import Place
from tests.chains import Compose


@pytest.mark.parametrize(("count", "threads"), [(1, None), (2, 4), (3, 2), (16, 1)])
def test_workers_share_the_usable_processors(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, threads: int | None
) -> None:
    """Eight of 128; a single worker has the stages' own default."""
    places: list[Place] = []
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(launch, "usable_processors", lambda: 8)
    monkeypatch.setattr(launch, "Workers", lambda place, **settings: places.append(place))
    launch.start_workers(Place(tmp_path, ("run.py",)), [compose("machine=cpu")], count=count)
    assert [place.threads for place in places] == [threads]
