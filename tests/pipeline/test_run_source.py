"""What may be given as a run."""

from __future__ import annotations

import re
from typing import Any

import pytest

from irexp import evaluate
from irexp.types import UserError


def test_a_dictionary_of_scores_is_a_run_as_its_error_says() -> None:
    """Whole numbers are ids, too."""
    qrels, run = {"q1": ["3"], "q2": ["7"]}, {"q1": {3: 1.0, 2: 0.5}}
    with pytest.raises(UserError, match=re.escape("[(q, d, s) for q, found in run.items() for d, s in found.items()]")):
        evaluate(run, qrels)  # type: ignore[arg-type]
    lines: Any = [(q, d, s) for q, found in run.items() for d, s in found.items()]
    assert evaluate(lines, qrels, ["RR@10"]).per_query["RR@10"] == {"q1": 1.0, "q2": 0.0}
