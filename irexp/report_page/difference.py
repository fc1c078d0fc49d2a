"""Differences between two rows, query by query: bars, and the queries that changed most with their best documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irexp.report_page.chart import MOST_BARS, bar_chart
from irexp.report_page.markup import Html, element, joined, shortened
from irexp.report_page.table import signed

#: The queries that are shown of either direction, the documents of each, and the characters of a text.
QUERIES, DOCUMENTS, CHARACTERS = 10, 3, 280


@dataclass(frozen=True)
class Shown:
    """A document of a ranking; without a text if it could not be read, without a grade if it was not judged."""

    doc_id: str
    text: str | None
    relevance: int | None


@dataclass(frozen=True)
class Change:
    """A query and how it changed: the value and the best documents of this row and of the other one.

    `text` is None if the query could not be read; documents are None if the run could not.
    """

    query_id: str
    text: str | None
    value: float
    other_value: float
    documents: tuple[Shown, ...] | None
    other_documents: tuple[Shown, ...] | None


@dataclass(frozen=True)
class Difference:
    """The comparison of two rows in a column: this row minus the other one.

    Attributes:
        row: the number of this row.
        other: the number of the other row.
        column: the number of the column.
        names: the labels of both rows and the title of the column.
        bars: the id and difference of each query, from the largest to the smallest.
        improved: the queries that gained most, the largest first.
        hurt: the queries that lost most, the largest first.
        notes: what could not be shown, and why.
    """

    row: int
    other: int
    column: int
    names: tuple[str, str, str]
    bars: tuple[tuple[str, float], ...]
    improved: tuple[Change, ...]
    hurt: tuple[Change, ...]
    notes: tuple[str, ...] = ()


def differences(found: Sequence[Difference], rows: Sequence[str], columns: Sequence[str], left_out: int) -> Html:
    """All comparisons; a script shows the chosen one, without it the first is open and the others can be opened.

    Args:
        found: at least one.
        rows: the labels of all rows.
        columns: the titles of all columns.
        left_out: the number of comparisons that the page does not hold.
    """
    first = found[0]
    choice = element(
        "p",
        _select("row", "Row ", rows, first.row),
        _select("other", " compared with ", rows, first.other),
        _select("column", " in ", columns, first.column),
        class_="choice script",
        hidden="",
    )
    absent = element("p", "This page does not hold that comparison.", id="absent", class_="foot", hidden="")
    note = (
        f"{left_out} more comparisons of two rows in a column are left out to keep the page small; a report of fewer "
        "rows has them."
    )
    notes = [element("p", note, class_="foot")] if left_out else []
    return joined(choice, absent, *(_section(one, is_open=one is first) for one in found), *notes)


def _select(name: str, label: str, options: Sequence[str], chosen: int) -> Html:
    listed = [
        element("option", text, value=number, selected="" if number == chosen else None)
        for number, text in enumerate(options)
    ]
    return element("label", label, element("select", *listed, data_choice=name))


def _section(one: Difference, *, is_open: bool) -> Html:
    row, other, column = one.names
    values = [value for _, value in one.bars]
    wins, losses = sum(value > 0 for value in values), sum(value < 0 for value in values)
    counts = f"{wins} queries better, {len(values) - wins - losses} equal, {losses} worse."
    merged = f" Each bar is the mean of neighbouring queries, {len(values)} in all." if len(values) > MOST_BARS else ""
    parts: list[Html] = [
        element("summary", element("b", row), " minus ", element("b", other), f" in {column}"),
        element("p", counts + merged),
        bar_chart(one.bars, x_name="queries, by difference", y_name=f"difference in {column}"),
        *(element("p", note, class_="foot") for note in one.notes),
    ]
    for title, changes in (("Most improved queries", one.improved), ("Most hurt queries", one.hurt)):
        if changes:
            parts += [element("h4", title), *(_change(change, row, other) for change in changes)]
    return element(
        "details",
        *parts,
        class_="difference",
        data_row=one.row,
        data_other=one.other,
        data_column=one.column,
        open="" if is_open else None,
    )


def _change(change: Change, row: str, other: str) -> Html:
    text = shortened(change.text, CHARACTERS) if change.text is not None else "(its text could not be read)"
    sign = "gain" if change.value > change.other_value else "loss"
    head = element(
        "p",
        element("span", signed(change.value - change.other_value, 4), class_=f"delta {sign}"),
        " ",
        element("q", text, dir="auto"),
        " ",
        element("span", f"query {change.query_id}", class_="id"),
    )
    both = [
        element("div", element("p", element("b", label), f" {value:.4f}"), _ranking(documents))
        for label, value, documents in (
            (row, change.value, change.documents),
            (other, change.other_value, change.other_documents),
        )
    ]
    return element("div", head, element("div", *both, class_="both"), class_="change")


def _ranking(documents: Sequence[Shown] | None) -> Html:
    if documents is None:
        return element("p", "Its run could not be read.", class_="foot")
    if not documents:
        return element("p", "No results.", class_="foot")
    lines = []
    for one in documents:
        is_relevant = one.relevance is not None and one.relevance > 0
        grade = "unjudged" if one.relevance is None else f"grade {one.relevance}"
        text = () if one.text is None else (" ", element("span", shortened(one.text, CHARACTERS), dir="auto"))
        badge = element("span", grade, class_="grade relevant" if is_relevant else "grade")
        lines.append(element("li", badge, " ", element("span", one.doc_id, class_="id"), *text))
    return element("ol", *lines)
