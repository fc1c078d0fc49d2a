"""The collection that chains of stages are run over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chains import write_collection


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A dozen documents in BEIR's layout; two test queries, one of which asks for a document that is not there."""
    queries = {"d0": "make cups", "q2": "zzz"}
    return write_collection(tmp_path / "toys", queries, {"test": "d0\td0\t1\nd0\td3\t1\nq2\tgone\t1\n"})
