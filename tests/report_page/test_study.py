"""The part of a page that shows a search: its charts, its best commands and all trials."""

from __future__ import annotations

import dataclasses
import re

import pytest

from irexp.report_page.chart import history_chart, share_chart
from irexp.report_page.study import TRIALS, Study, Trial, study

FOUND = Study(
    ("nDCG@10",),
    ("maximize",),
    (
        Trial(0, "complete", (0.25,), 1.5, {"index.k1": "0.5", "index.b": "<b>"}),
        Trial(1, "fail", None, None, {"index.k1": "0.7", "index.b": "1"}),
        Trial(2, "complete", (0.5,), 2.0, {"index.k1": "0.9", "index.b": "0.1"}),
        Trial(3, "complete", (0.375,), 2.0, {"index.k1": "1.1", "index.b": "0.1"}),
    ),
    {"nDCG@10": {"index.b": 0.25, "index.k1": 0.75}},
    (("trial 2: nDCG@10 0.5000", "python run.py 'index.k1=0.9' && echo"),),
)


def test_a_search_is_shown_with_its_best_command_and_all_trials() -> None:
    """Settings are text, a failed trial has no value and no point, the most important setting comes first."""
    text = study(FOUND)
    assert text.count("<circle") == 3 and text.count("<svg") == 2
    assert "Best: </b>trial 2: nDCG@10 0.5000" in text and "index.k1=0.9&#x27; &amp;&amp; echo</code>" in text
    assert "&lt;b&gt;" in text and "<td>fail</td>" in text and "All 4 trials" in text
    assert text.index(">index.k1<") < text.index(">index.b<") and "0.75" in text
    rows = re.findall("<tr>.*?</tr>", text)
    assert {row.count("<t") for row in rows} == {7}  # the row itself, four settings of a trial, and two numbers


def test_a_search_without_a_complete_trial_is_a_table_of_its_trials() -> None:
    """No chart without a value; of very many trials the last are listed."""
    failed = tuple(Trial(number, "fail", None, None, {}) for number in range(TRIALS + 5))
    text = study(dataclasses.replace(FOUND, trials=failed, importance={}, best=()))
    assert "<svg" not in text and f"The last {TRIALS} of {TRIALS + 5} trials" in text


@pytest.mark.parametrize("is_highest", [True, False])
def test_the_line_of_a_history_is_the_best_so_far(is_highest: bool) -> None:
    """It only rises, or only falls, and passes through the best points alone."""
    points = [(0, 0.3), (1, 0.2), (2, 0.6), (5, 0.4), (6, 0.1)]
    svg = history_chart(points, is_highest=is_highest, y_name="nDCG@10")
    ((path),) = re.findall(r'<path d="M[\d.]+ ([^"]+)"', svg)
    heights = [float(value) for value in re.findall(r"(?:^|V)([\d.]+)", path)]
    assert heights == sorted(heights, reverse=is_highest) and len(set(heights)) == (2 if is_highest else 3)
    drawn = [float(value) for value in re.findall(r'cy="([\d.]+)"', svg)]
    assert len(drawn) == 5
    assert heights[-1] == pytest.approx(min(drawn) if is_highest else max(drawn), abs=0.06)


def test_a_bar_is_as_long_as_its_share() -> None:
    """Of two shares the second has a third of the first one's length."""
    svg = share_chart([("a", 0.75), ("b", 0.25)], name="importance")
    first, second = (float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', svg))
    assert first == pytest.approx(3 * second, abs=0.02)
