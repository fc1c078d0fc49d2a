"""The verdict at the end of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from irexp.evaluation.significance import paired_t_test
from irexp.training.verdict import verdict

NAME = "validation/nDCG@10"


def write(folder: Path, value_at: dict[int, list[float]]) -> None:
    """A history, and the values per query of each step."""
    (folder / ".training").mkdir()
    lines = [f"{step},{NAME},{np.mean(values):.6g}" for step, values in value_at.items()]
    (folder / "history.csv").write_text("\n".join(["step,name,value", *lines, "4,train/loss,0.1"]) + "\n")
    for step, values in value_at.items():
        np.save(folder / ".training" / f"per_query-{step}.npy", np.array(values))


def test_a_gain_is_tested_against_the_start_and_the_last_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line names all three values; the p-values are those of the paired t-test."""
    start, best, last = [0.1, 0.0, 0.3, 0.2], [0.8, 0.9, 0.9, 1.0], [0.8, 0.7, 1.0, 0.9]
    write(tmp_path, {0: start, 2: best, 4: last})
    with caplog.at_level("INFO"):
        found = verdict(tmp_path, NAME, 2)
    assert found == {
        "start/nDCG@10": 0.15,
        "start/p_value": paired_t_test(best, start),
        "last/nDCG@10": 0.85,
        "last/p_value": paired_t_test(best, last),
    }
    assert [record.getMessage() for record in caplog.records] == [
        "fit: validation nDCG@10 0.1500 at the start, 0.8500 at step 4, best 0.9000 at step 2: +0.7500 (p = 0.001 over "
        "4 queries), +0.0500 against step 4 (p = 0.495)"
    ]


def test_the_last_step_is_not_compared_with_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the last validation is the best, the start alone is compared."""
    write(tmp_path, {0: [0.0] * 30, 2: [*[0.9, 0.8] * 15]})
    with caplog.at_level("INFO"):
        assert set(verdict(tmp_path, NAME, 2)) == {"start/nDCG@10", "start/p_value"}
    assert "best 0.8500 at step 2, the last: +0.8500 (p < 0.001 over 30 queries)" in caplog.text


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        ([0.3, 0.3, 0.2, 0.3], "not better than the model before training"),
        ([0.5, 0.5, 0.5, 0.5], "not better than the model before training"),
        ([0.9, 0.5, 0.5, 0.5], "not significantly better than the model before training"),
    ],
)
def test_a_loss_and_a_gain_by_chance_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trained: list[float], words: str
) -> None:
    """A worse checkpoint, an equal one, and one that is better for a single query."""
    write(tmp_path, {0: [0.5, 0.5, 0.5, 0.5], 2: trained})
    verdict(tmp_path, NAME, 2)
    assert [words in record.getMessage() for record in caplog.records] == [True]


def test_a_training_of_an_earlier_version_gets_no_verdict(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It did not keep the values per query; the training does not fail after its last step."""
    write(tmp_path, {0: [0.5, 0.5], 2: [0.6, 0.6]})
    (tmp_path / ".training" / "per_query-0.npy").unlink()
    assert verdict(tmp_path, NAME, 2) == {}
    assert "no verdict" in caplog.text
