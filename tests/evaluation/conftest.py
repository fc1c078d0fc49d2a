"""Results whose differences are known."""

import pytest

from irexp.evaluation.table import Result
from tests.evaluation.results import measured


@pytest.fixture
def rows() -> list[Result]:
    """A baseline, a better run, a worse run and an equal run."""
    return [
        Result("BM25", measured(offset=0, seed=0), {"run": "run/bm25"}),
        Result("better & |best|", measured(offset=0.2, seed=1), {"run": "run/b", "index": "index/b"}),
        Result("worse_run", measured(offset=-0.2, seed=2)),
        Result("again", measured(offset=0, seed=0)),
    ]


@pytest.fixture
def several() -> list[Result]:
    """Two rows over two collections, one of them with three seeds, and a row that was measured on one."""
    return [
        Result("BM25", measured(offset=0, seed=0), column="A"),
        Result("BM25", measured(offset=0.2, seed=1, queries=20), column="B_1"),
        *(Result("ours", measured(offset=0.1, seed=2 + n), column="A", seed=n) for n in range(3)),
        *(Result("ours", measured(offset=0.1, seed=9 + n, queries=20), column="B_1", seed=n) for n in range(3)),
        Result("other", measured(offset=0.3, seed=20), column="A"),
    ]
