"""The table of results and the table of its comparisons, as HTML."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from irexp.evaluation.table import Cell, Column, Table
from irexp.report_page.mark import swatch
from irexp.report_page.markup import Html, element, joined


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, class_: str = "") -> Html:
    """A table with one line of heads; the first `left` columns are aligned to the left, the others to the right."""
    heads = [element("th", text, scope="col", class_=_side(n, left)) for n, text in enumerate(head)]
    lines = [element("tr", *(element("td", cell, class_=_side(n, left)) for n, cell in enumerate(row))) for row in rows]
    body = (element("thead", element("tr", *heads)), element("tbody", *lines))
    return element("div", element("table", *body, class_=class_ or None), class_="scroll")


def results(table: Table) -> Html:
    """The table with its foot: the best of each column is bold, significant differences are marked."""
    heads = [element("tr", element("td"), *(_head(column.measure) for column in table.columns))]
    if len(table.collections) > 1:
        groups = [(name, len(list(found))) for name, found in itertools.groupby(c.collection for c in table.columns)]
        over = [element("th", name, colspan=width, scope="colgroup", class_="over") for name, width in groups]
        heads.insert(0, element("tr", element("td"), *over))
    lines = [
        element("tr", row_head(number, row.label), *(element("td", _cell(cell), class_="number") for cell in cells))
        for number, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True))
    ]
    body = (element("thead", *heads), element("tbody", *lines))
    foot = element("p", table.footer, class_="foot")
    return joined(element("div", element("table", *body, class_="results"), class_="scroll"), foot)


def comparisons(table: Table) -> Html | None:
    """All comparisons; None if there is none."""
    head = ["row", "compared with", "column", "difference", "p", "effect size", "wins", "ties", "losses"]
    rows = []
    for number, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True)):
        for column, cell in zip(table.columns, cells, strict=True):
            if (found := cell.comparison) is not None:
                p_value = joined(f"{found.p_value:.4g}", element("sup", cell.marker) if cell.marker else "")
                numbers = [signed(found.difference, 4), p_value, signed(found.effect_size, 3)]
                counts = [str(count) for count in (found.wins, found.ties, found.losses)]
                label = joined(swatch(number), " ", row.label)
                rows.append([label, found.against, column_title(table, column), *numbers, *counts])
    if not rows:
        return None
    note = "Effect size: Cohen's d of paired values; p is corrected; wins, ties and losses count queries."
    return joined(plain_table(head, rows, left=3), element("p", note, class_="foot"))


def column_title(table: Table, column: Column) -> str:
    """The measure, and the collection if the table has several."""
    return column.measure if len(table.collections) == 1 else column.title


def row_head(number: int, label: str) -> Html:
    """The head of a row: its mark and its label."""
    return element("th", swatch(number), " ", label, scope="row")


def signed(value: float, decimals: int) -> str:
    """A number with its sign, a minus as wide as the plus."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def _head(text: str) -> Html:
    return element("th", text, scope="col", class_="number")


def _cell(cell: Cell) -> Html:
    marker = element("sup", cell.marker) if cell.marker else ""
    return joined(element("strong", cell.text) if cell.is_best else cell.text, marker)


def _side(column: int, left: int) -> str | None:
    return None if column < left else "number"
