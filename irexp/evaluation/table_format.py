"""The formats of a table: Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from irexp.evaluation.comparison import BETTER, WORSE

if TYPE_CHECKING:
    from irexp.evaluation.table import Cell, Table

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after a line's end, brackets and stars would be its arguments
    "*": "{*}",
    "–": "--",
    "±": r"$\pm$",
    BETTER: r"$^\dagger$",
    WORSE: r"$^\ddagger$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def markdown(table: Table) -> str:
    """The table in Markdown, aligned as plain text too, and its footer."""
    has_one = len(table.collections) == 1
    columns = [[_markdown_text(column.measure if has_one else column.title) for column in table.columns]]
    marked = list(zip(*[_marked(column) for column in zip(*table.cells, strict=True)], strict=True))
    labels = ["", *(_markdown_text(row.label) for row in table.rows)]
    grid = [[label, *texts] for label, texts in zip(labels, [*columns, *map(list, marked)], strict=True)]
    return f"{_grid(grid)}\n{_markdown_text(table.footer)}\n"


def comparisons(table: Table) -> str:
    """All comparisons in Markdown; empty if there is none."""
    lines = [["", "than", "column", "difference", "p", "effect size", "wins", "ties", "losses"]]
    for row, cells in zip(table.rows, table.cells, strict=True):
        for column, cell in zip(table.columns, cells, strict=True):
            if (found := cell.comparison) is not None:
                words = [_markdown_text(text) for text in (row.label, found.against, column.title)]
                numbers = [f"{found.difference:+.4f}", _p_text(found.p_value), f"{found.effect_size:+.3f}"]
                lines.append([*words, *numbers, *map(str, (found.wins, found.ties, found.losses))])
    if len(lines) == 1:
        return ""
    note = "Effect size: Cohen's d of paired values; p is corrected; wins, ties and losses count queries."
    return f"{_grid(lines, left=3)}\n{note}\n"


def latex(table: Table) -> str:
    """A LaTeX table for the package booktabs, with the footer as its caption."""
    has_one = len(table.collections) == 1
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\begin{tabular}{l" + "r" * len(table.columns) + "}",
        r"\toprule",
        *([] if has_one else _latex_collections(table)),
        rf"{' & '.join(['', *(_latex(column.measure) for column in table.columns)]).lstrip()} \\",
        r"\midrule",
    ]
    for row, cells in zip(table.rows, table.cells, strict=True):
        texts = [rf"\textbf{{{_latex(cell.text)}}}" if cell.is_best else _latex(cell.text) for cell in cells]
        marked = [text + _latex(cell.marker) for text, cell in zip(texts, cells, strict=True)]
        lines.append(rf"{' & '.join([_latex(row.label), *marked])} \\")
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{_latex(table.footer)}}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def as_csv(table: Table) -> str:
    """Values, deviations, comparisons and artifacts, one line per row of the table."""
    kinds = list(dict.fromkeys(kind for row in table.rows for kind in row.artifacts))
    has_deviations = any(cell.deviation is not None for row in table.cells for cell in row)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    header = []
    for column in table.columns:
        name = column.title
        header += [name, *([f"sd({name})"] if has_deviations else []), f"p({name})", f"d({name})"]
        header += [f"wins({name})", f"ties({name})", f"losses({name})"]
    writer.writerow(["label", *header, *kinds])
    for row, cells in zip(table.rows, table.cells, strict=True):
        numbers = [text for cell in cells for text in _csv_cell(cell, has_deviations=has_deviations)]
        writer.writerow([row.label, *numbers, *(row.artifacts.get(kind, "") for kind in kinds)])
    return file.getvalue()


def _csv_cell(cell: Cell, *, has_deviations: bool) -> list[str]:
    value = "" if cell.value is None else f"{cell.value:.4f}"
    deviation = "" if cell.deviation is None else f"{cell.deviation:.4f}"
    found = cell.comparison
    compared = (
        [_p_text(found.p_value), f"{found.effect_size:.4f}", *map(str, (found.wins, found.ties, found.losses))]
        if found
        else [""] * 5
    )
    return [value, *([deviation] if has_deviations else []), *compared]


def _latex_collections(table: Table) -> list[str]:
    """The line of collections over that of the measures."""
    cells, rules, start = [""], [], 2
    for collection, columns in itertools.groupby(table.columns, key=lambda column: column.collection):
        width = len(list(columns))
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{_latex(collection)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [rf"{' & '.join(cells).lstrip()} \\", "".join(rules)]


def _grid(lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lines of a Markdown table, the first being its header; `left` columns are aligned to the left."""
    widths = [max(3 if n < left else 4, *map(len, column)) for n, column in enumerate(zip(*lines, strict=True))]
    rule = ["-" * width if n < left else "-" * (width - 1) + ":" for n, width in enumerate(widths)]
    header, *rest = (
        [f"{text:{'<' if n < left else '>'}{width}}" for n, (text, width) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    )
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *rest))


def _marked(column: Sequence[Cell]) -> list[str]:
    """The cells of a column, padded so that digits are aligned even if only some values are bold or marked."""
    has_bold, has_marker = any(cell.is_best for cell in column), any(cell.marker for cell in column)
    texts = []
    for cell in column:
        stars = "**" if cell.is_best else "  " if has_bold else ""
        texts.append(f"{stars}{cell.text}{stars}{cell.marker or (' ' if has_marker else '')}")
    return texts


def _p_text(p_value: float) -> str:
    return f"{p_value:.4g}"


def _markdown_text(text: str) -> str:
    return re.sub(r"([\\|*<`])", r"\\\1", " ".join(text.split()))


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))
