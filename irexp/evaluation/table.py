"""A table of results: one row per run, one column per measure, with significance against a baseline row.

`make_table` computes every cell; the methods of `Table` only format them.
"""

import csv
import dataclasses
import difflib
import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from irexp.config.measure import leaves_grade_open
from irexp.evaluation.measures import Measured, parse_measures
from irexp.evaluation.significance import bonferroni, holm, paired_t_test, randomisation_test
from irexp.types import UserError

log = logging.getLogger(__name__)

BETTER, WORSE = "†", "‡"

TESTS = {"t": "paired t-test", "randomisation": "paired randomisation test"}

CORRECTIONS: Mapping[str, Callable[[Sequence[float]], list[float]]] = {
    "holm": holm,
    "bonferroni": bonferroni,
    "none": list,
}

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    BETTER: r"$^\dagger$",
    WORSE: r"$^\ddagger$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class Row:
    """A run in the table.

    Attributes:
        label: the text of the first column.
        measured: the result of `evaluate`.
        artifacts: kind → identity of each artifact that the row was made from, for the CSV.
    """

    label: str
    measured: Measured
    artifacts: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A measured value; `p_value` is corrected, and None in the baseline row; `marker` is BETTER, WORSE or empty."""

    value: float
    p_value: float | None
    marker: str
    is_best: bool

    @property
    def text(self) -> str:
        """The value with four decimals."""
        return f"{self.value:.4f}"


@dataclass(frozen=True)
class Table:
    """The computed table: `cells[row][column]`, and a footer that explains it."""

    rows: tuple[Row, ...]
    measures: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    footer: str

    def to_markdown(self) -> str:
        """A Markdown table, aligned as plain text too; the best value of each column is bold."""
        labels = ["", *(_markdown(row.label) for row in self.rows)]
        width = max(3, *map(len, labels))
        lines = [[label.ljust(width)] for label in labels]
        rule = ["-" * width]
        for column, measure in enumerate(self.measures):
            texts = [measure, *(_markdown_cell(row[column], [r[column] for r in self.cells]) for row in self.cells)]
            width = max(4, *map(len, texts))
            rule.append("-" * (width - 1) + ":")
            for line, text in zip(lines, texts, strict=True):
                line.append(text.rjust(width))
        lines.insert(1, rule)
        return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{_markdown(self.footer)}\n"

    def __str__(self) -> str:
        return self.to_markdown()

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return self.to_markdown()

    def to_latex(self) -> str:
        """A LaTeX table for the package booktabs, with the footer as its caption."""
        header = " & ".join(["", *map(_latex, self.measures)]).lstrip()
        lines = [
            r"\begin{table}",
            r"\centering",
            r"\begin{tabular}{l" + "r" * len(self.measures) + "}",
            r"\toprule",
            rf"{header} \\",
            r"\midrule",
        ]
        for row, cells in zip(self.rows, self.cells, strict=True):
            texts = [rf"\textbf{{{cell.text}}}" if cell.is_best else cell.text for cell in cells]
            marked = [text + _latex(cell.marker) for text, cell in zip(texts, cells, strict=True)]
            lines.append(rf"{' & '.join([_latex(row.label), *marked])} \\")
        lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{_latex(self.footer)}}}", r"\end{table}"]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """For programs: values, corrected p-values against the baseline, and artifacts, without markup and footer."""
        kinds = list(dict.fromkeys(kind for row in self.rows for kind in row.artifacts))
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", *(name for m in self.measures for name in (m, f"p({m})")), *kinds])
        for row, cells in zip(self.rows, self.cells, strict=True):
            numbers = [text for cell in cells for text in (cell.text, _p_text(cell.p_value))]
            writer.writerow([row.label, *numbers, *(row.artifacts.get(kind, "") for kind in kinds)])
        return file.getvalue()


def make_table(
    rows: Sequence[Row],
    measures: Sequence[str],
    *,
    baseline: int = 0,
    test: str = "t",
    alpha: float = 0.05,
    correction: str = "holm",
    permutations: int = 10_000,
) -> Table:
    """Compare every row with the baseline, measure by measure.

    The rows must have been measured over the same documents, which cannot be checked here, and with the same qrels.

    Args:
        rows: the runs in the order of the table, each with its own label.
        measures: names as in ir_measures; every row must have been evaluated with them.
        baseline: the position of the row with which the others are compared.
        test: "t" or "randomisation", see `irexp.evaluation.significance`.
        alpha: the corrected p-value below which a difference is marked.
        correction: "holm", "bonferroni" or "none", over all comparisons of one measure.
        permutations: the number of sign flips of the randomisation test.

    Raises:
        UserError: if a setting is wrong, a row lacks a measure, or the rows differ in queries, judgements, the
            smallest relevant grade, or whether a query may be its own result.
    """
    comparison = _Comparison(baseline, test, alpha, correction, permutations)
    _check_settings(rows, comparison)
    names = [str(measure) for measure in parse_measures(measures)]
    _check_rows(rows, names)
    smallest = comparison.corrected([1 / (permutations + 1)] * (len(rows) - 1))
    if test == "randomisation" and smallest and smallest[0] >= alpha:
        log.warning("%d permutations are too few for any difference to be significant at %g", permutations, alpha)
    columns = [_column(rows, name, comparison) for name in names]
    return Table(tuple(rows), tuple(names), tuple(zip(*columns, strict=True)), _footer(rows, names, comparison))


@dataclass(frozen=True)
class _Comparison:
    """How rows are compared: the settings of `make_table`."""

    baseline: int
    test: str
    alpha: float
    correction: str
    permutations: int

    def p_value(self, a: Sequence[float], b: Sequence[float]) -> float:
        return paired_t_test(a, b) if self.test == "t" else randomisation_test(a, b, permutations=self.permutations)

    def corrected(self, p_values: Sequence[float]) -> list[float]:
        return CORRECTIONS[self.correction](p_values)


def _column(rows: Sequence[Row], measure: str, comparison: _Comparison) -> list[Cell]:
    query_ids = rows[comparison.baseline].measured.query_ids
    values = [[row.measured.per_query[measure][query_id] for query_id in query_ids] for row in rows]
    others = [position for position in range(len(rows)) if position != comparison.baseline]
    p_values = [comparison.p_value(values[other], values[comparison.baseline]) for other in others]
    p_value_of = dict(zip(others, comparison.corrected(p_values), strict=True))
    aggregated = [row.measured.aggregated[measure] for row in rows]
    best = f"{max(aggregated):.4f}"
    cells = []
    for position, value in enumerate(aggregated):
        p_value = p_value_of.get(position)
        is_significant = p_value is not None and p_value < comparison.alpha
        marker = (BETTER if value > aggregated[comparison.baseline] else WORSE) if is_significant else ""
        # Values that are equal with four decimals are all bold; a single row is not.
        cells.append(Cell(value, p_value, marker, is_best=len(rows) > 1 and f"{value:.4f}" == best))
    return cells


def _footer(rows: Sequence[Row], measures: Sequence[str], comparison: _Comparison) -> str:
    baseline, comparisons = rows[comparison.baseline], len(rows) - 1
    parts = []
    if comparisons:
        flips = f" ({comparison.permutations} permutations)" if comparison.test == "randomisation" else ""
        correction = "no" if comparison.correction == "none" else comparison.correction.capitalize()
        parts.append(
            f"{BETTER} significantly better, {WORSE} significantly worse than {_one_line(baseline.label)}: "
            f"two-sided {TESTS[comparison.test]}{flips}, {correction} correction over the {comparisons} "
            f"comparison{'s' if comparisons > 1 else ''} of each measure, alpha = {comparison.alpha:g}."
        )
        parts.append("Bold: the best of a column.")
    queries = len(baseline.measured.query_ids)
    parts.append(f"{queries} {'queries' if queries > 1 else 'query'}, all of the qrels; one without results counts 0.")
    parts += _conventions(rows, measures)
    for row in rows:
        if row.measured.missing_queries:
            parts.append(f"Without results in {_one_line(row.label)}: {row.measured.missing_queries}.")
    parts.append("Ties: score descending, then document id.")
    return " ".join(parts)


def _conventions(rows: Sequence[Row], measures: Sequence[str]) -> list[str]:
    """What decides which results count, where it is not obvious."""
    parts = []
    relevance, highest = rows[0].measured.relevance, max(row.measured.highest_grade or 0 for row in rows)
    if relevance or (highest > 1 and any(map(leaves_grade_open, parse_measures(measures)))):
        end = f" (the highest is {highest})" if highest else ""
        parts.append(
            f"Measures of relevant documents that do not name a grade count grades from {relevance or 1}{end}."
        )
    if any(row.measured.remove_query for row in rows):
        parts.append("The document with the query's own id is not a result.")
    return parts


def _check_settings(rows: Sequence[Row], comparison: _Comparison) -> None:
    if not rows:
        raise UserError("a table needs at least one row")
    if not 0 <= comparison.baseline < len(rows):
        raise UserError(f"baseline: there is no row {comparison.baseline}; the rows are 0 to {len(rows) - 1}")
    _check_choice("significance", comparison.test, list(TESTS))
    _check_choice("correction", comparison.correction, list(CORRECTIONS))
    if not 0 < comparison.alpha < 1:
        raise UserError(f"alpha: {comparison.alpha} must be between 0 and 1; the usual level is 0.05")
    if comparison.permutations < 1:
        raise UserError(f"permutations: {comparison.permutations} must be at least 1; the usual number is 10000")
    labels = [row.label for row in rows]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UserError(f"two rows have the label {twice[0]!r}; give each its own")


def _check_rows(rows: Sequence[Row], measures: Sequence[str]) -> None:
    for row in rows:
        lacking = [measure for measure in measures if measure not in row.measured.per_query]
        if lacking:
            raise UserError(
                f"row {row.label!r} was not evaluated with {', '.join(lacking)}, only with "
                f"{', '.join(row.measured.per_query)}: run stage=evaluate with the same evaluation.measures for all"
            )
    first, *others = rows
    for row in others:
        differing = sorted(set(first.measured.query_ids) ^ set(row.measured.query_ids))
        if differing:
            raise UserError(
                f"rows {first.label!r} and {row.label!r} have different queries: {len(differing)} are in only one of "
                f"them, such as {differing[0]!r}; evaluate both with the same topics"
            )
        for what, one, other in _conditions(first.measured, row.measured):
            if one != other:
                raise UserError(
                    f"rows {first.label!r} and {row.label!r} differ in {what}: {one} and {other}; evaluate both with "
                    "the same topics"
                )


def _conditions(one: Measured, other: Measured) -> list[tuple[str, object, object]]:
    """Conditions under which two rows can be compared, with the two values; without what is not known of both."""
    conditions: list[tuple[str, object, object]] = [
        ("the judgements, by digest", one.qrels_digest, other.qrels_digest),
        ("whether the document with the query's own id is dropped", one.remove_query, other.remove_query),
    ]
    known = [condition for condition in conditions if None not in condition]
    return [("the smallest relevant grade", one.relevance or 1, other.relevance or 1), *known]


def _check_choice(name: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        nearest = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise UserError(f"{name}: {value!r} is not one of {', '.join(choices)}{hint}")


def _p_text(p_value: float | None) -> str:
    return "" if p_value is None else f"{p_value:.4g}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _markdown(text: str) -> str:
    return re.sub(r"([\\|*<`])", r"\\\1", _one_line(text))


def _markdown_cell(cell: Cell, column: Sequence[Cell]) -> str:
    """The cell, padded so that the column's digits are aligned even if only some values are bold."""
    has_bold, has_marker = any(c.is_best for c in column), any(c.marker for c in column)
    stars = "**" if cell.is_best else "  " if has_bold else ""
    return f"{stars}{cell.text}{stars}{cell.marker or (' ' if has_marker else '')}"


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in _one_line(text))
