"""A page stays small, and shows of large tables what it can."""

from __future__ import annotations

import dataclasses
import re

from irexp.evaluation.measures import Measured
from irexp.evaluation.plot import Point
from irexp.evaluation.table import Result, make_table
from irexp.report_page.difference import DOCUMENTS, QUERIES, Change, Difference, Shown
from irexp.report_page.page import Content, Costs, page
from irexp.stage.page_difference import COMPARISONS


def content(*, rows: int = 2, queries: int = 3, differences: tuple[Difference, ...] = ()) -> Content:
    """A page of rows whose values differ, on two collections."""
    results = []
    for number in range(rows):
        per_query = {f"q{query}": (query + number) % 7 / 7 for query in range(queries)}
        measured = Measured({"nDCG@10": per_query}, {"nDCG@10": sum(per_query.values()) / queries}, 0, 0)
        results += [Result(f"row {number}", measured, column=column) for column in ("<a>", "b")]
    table = make_table(results, ["nDCG@10"], mean=True)
    return Content(table, "Made today.", {}, [], differences, 7, {}, 0, [], [])


def test_a_page_with_as_much_as_it_may_hold_is_a_few_megabytes() -> None:
    """All comparisons with long texts, of many queries, in a table of many rows."""
    shown = tuple(Shown("document" * 5, "word " * 1000, 1) for _ in range(DOCUMENTS))
    change = Change("q1", "word " * 1000, 1.0, 0.0, shown, shown)
    bars = tuple((f"q{query}", 1 - query / 3500) for query in range(7000))
    names = ("row 1", "row 0", "nDCG@10")
    one = Difference(1, 0, 0, names, bars, (change,) * QUERIES, (change,) * QUERIES)
    text = page(content(rows=40, differences=(one,) * COMPARISONS))
    assert 1e6 < len(text) < 5e6
    assert "7 more comparisons of two rows in a column are left out" in text


def test_a_section_without_content_is_left_out() -> None:
    """A store without checkpoints, speeds and texts makes a page of its table; names of collections are text."""
    text = page(content())
    assert re.findall("<h2>([^<]*)</h2>", text) == ["Results", "Comparisons"]
    assert "&lt;a&gt;" in text and "<a>" not in text
    assert text.count('scope="colgroup"') == 3  # both collections and their mean


def test_costs_of_nothing_have_no_place_on_an_axis_of_logarithms() -> None:
    """An index of no bytes is left out of that chart alone."""
    costs = Costs("a", "nDCG@10", [(0, Point("row 0", 0.5, 2.0, 0.0)), (1, Point("row 1", 0.4, 1.0, 9.0))])
    text = page(dataclasses.replace(content(), costs=[costs]))
    assert [chart.count("<circle") for chart in re.findall('<svg[^>]*class="chart".*?</svg>', text)] == [2, 1]
