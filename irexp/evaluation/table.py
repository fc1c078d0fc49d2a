"""A table of results: rows of runs, columns of collections and measures, each row compared with another one.

`make_table` computes every cell; `irexp.evaluation.table_format` only formats them.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from irexp.evaluation import table_format
from irexp.evaluation.comparison import BETTER, WORSE, Comparison, Significance
from irexp.evaluation.measures import Measured, parse_measures
from irexp.evaluation.table_foot import foot
from irexp.types import UserError

#: The name of the last column.
MEAN = "mean"


@dataclass(frozen=True)
class Result:
    """What was measured of a run, and its place in a table.

    Attributes:
        label: of its row.
        measured: the result of `evaluate`.
        artifacts: kind → identity of each artifact that it was made from.
        column: the name of its collection; "" in a table of one.
        seed: distinguishes results of the same row and column, which are averaged.
    """

    label: str
    measured: Measured
    artifacts: dict[str, str] = dataclasses.field(default_factory=dict)
    column: str = ""
    seed: int | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table: all results of one label."""

    label: str
    results: tuple[Result, ...]

    @property
    def artifacts(self) -> dict[str, str]:
        """Kind → the identities of the row's artifacts, each once."""
        kinds = dict.fromkeys(kind for result in self.results for kind in result.artifacts)
        names = {kind: [result.artifacts.get(kind, "") for result in self.results] for kind in kinds}
        return {kind: " ".join(dict.fromkeys(" ".join(found).split())) for kind, found in names.items()}

    def of(self, column: str) -> tuple[Result, ...]:
        """Its results in a column, one per seed."""
        return tuple(result for result in self.results if result.column == column)


@dataclass(frozen=True)
class Column:
    """A column of a table: a measure on a collection."""

    collection: str
    measure: str

    @property
    def title(self) -> str:
        """Both in one line."""
        return f"{self.collection} {self.measure}".strip()


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        value: the measured value, of several seeds their mean; None if it was not measured.
        deviation: the standard deviation over the seeds (n - 1 in the denominator); None for one.
        comparison: with the row's reference; None if there is none.
        marker: BETTER, WORSE or empty.
        is_best: whether no row has a higher value, with four decimals.
    """

    value: float | None
    deviation: float | None = None
    comparison: Comparison | None = None
    marker: str = ""
    is_best: bool = False

    @property
    def text(self) -> str:
        """The value with four decimals, and its deviation; a dash if it was not measured."""
        if self.value is None:
            return "–"
        return f"{self.value:.4f}" + (f" ± {self.deviation:.4f}" if self.deviation is not None else "")

    @property
    def p_value(self) -> float | None:
        """The corrected p-value of the comparison."""
        return None if self.comparison is None else self.comparison.p_value


@dataclass(frozen=True)
class Table:
    """The computed table: `cells[row][column]`, and a footer that explains it."""

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]
    footer: str

    @cached_property
    def collections(self) -> tuple[str, ...]:
        """The names of the collections, in their order."""
        return tuple(dict.fromkeys(column.collection for column in self.columns))

    def first_measure(self, collection: str) -> str:
        """The measure of a collection's first column."""
        return next(column.measure for column in self.columns if column.collection == collection)

    def to_markdown(self) -> str:
        """A Markdown table, aligned as plain text too; the best value of each column is bold."""
        return table_format.markdown(self)

    def comparisons(self) -> str:
        """A Markdown table of all comparisons: difference, p-value, effect size, wins, ties and losses."""
        return table_format.comparisons(self)

    def to_latex(self) -> str:
        """A LaTeX table for the package booktabs, with the footer as its caption."""
        return table_format.latex(self)

    def to_csv(self) -> str:
        """For programs: values, comparisons and artifacts, without markup and footer."""
        return table_format.as_csv(self)

    def __str__(self) -> str:
        return self.to_markdown()

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return self.to_markdown()


def make_table(
    results: Sequence[Result],
    measures: Sequence[str] | None = None,
    *,
    test: Significance | None = None,
    against: Mapping[str, str] | None = None,
    mean: bool = False,
    notes: Sequence[str] = (),
) -> Table:
    """Make a table of results; every row is compared with its reference, column by column.

    The rows of a column must have been measured over the same documents, which cannot be checked here, and with the
    same qrels.

    Args:
        results: one per run; rows and columns are in the order of their first result.
        measures: names as in ir_measures; every result must have been evaluated with them. None: for each collection
            all that its results have in common.
        test: how rows are compared; None for the defaults.
        against: for rows by their label, the label of the reference; for all others it is the first row.
        mean: whether to add columns with the mean over the collections, for the rows that were measured on all.
        notes: further sentences for the footer.

    Raises:
        UserError: if a setting is wrong, a result lacks a measure, or the rows of a column differ in queries,
            judgements, the smallest relevant grade, or whether a query may be its own result.
    """
    test = test or Significance()
    test.check()
    wanted = None if measures is None else [str(measure) for measure in parse_measures(measures)]
    _check_results(results, wanted or [])
    rows = [
        Row(label, tuple(result for result in results if result.label == label))
        for label in dict.fromkeys(result.label for result in results)
    ]
    references = _references([row.label for row in rows], against or {})
    names_of = {collection: wanted or _common(results, collection) for collection in _collections(results)}
    columns = [Column(collection, name) for collection, names in names_of.items() for name in names]
    cells = [_column(rows, column, test, references) for column in columns]
    compared = [sum(cell.comparison is not None for cell in column) for column in cells]
    test.warn_if_too_few(min(filter(None, compared), default=0))
    own = len(columns)
    if mean and len(names_of) > 1:
        for name in _in_all(list(names_of.values())):
            of_name = [cell for cell, column in zip(cells, columns, strict=False) if column.measure == name]
            columns.append(Column(MEAN, name))
            cells.append(_best([_mean(row, name, of_name, position) for position, row in enumerate(rows)]))
    measured = list(dict.fromkeys(column.measure for column in columns))
    footer = foot(
        rows,
        measured,
        test=test,
        references=[rows[reference].label for reference in references],
        notes=notes,
        left_out={} if wanted else {name: _of_some(results, name, shown) for name, shown in names_of.items()},
        has_means=len(columns) > own,
    )
    return Table(tuple(rows), tuple(columns), tuple(zip(*cells, strict=True)), footer)


def _collections(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.column for result in results))


def _common(results: Sequence[Result], collection: str) -> list[str]:
    """The measures that all results of a collection have."""
    found = _in_all([list(result.measured.aggregated) for result in results if result.column == collection])
    if not found:
        raise UserError(f"the results on {collection} have no measure in common; set the same evaluation=… for all")
    return found


def _of_some(results: Sequence[Result], collection: str, shown: Sequence[str]) -> list[str]:
    """The measures that only some results of a collection have."""
    found = [name for result in results if result.column == collection for name in result.measured.aggregated]
    return [name for name in dict.fromkeys(found) if name not in shown]


def _in_all(lists: Sequence[Sequence[str]]) -> list[str]:
    return [name for name in lists[0] if all(name in names for names in lists)]


def _references(labels: Sequence[str], against: Mapping[str, str]) -> list[int]:
    """The position of each row's reference."""
    for label in [*against, *against.values()]:
        if label not in labels:
            raise UserError(f"against: there is no row {label!r}; the rows are {', '.join(labels)}")
    return [labels.index(against.get(label, labels[0])) for label in labels]


def _column(rows: Sequence[Row], column: Column, test: Significance, references: Sequence[int]) -> list[Cell]:
    values: list[list[float] | None] = []
    cells = []
    query_ids = next(row.of(column.collection)[0] for row in rows if row.of(column.collection)).measured.query_ids
    for row in rows:
        found = [result.measured for result in row.of(column.collection)]
        of_seeds = [measured.per_query[column.measure] for measured in found]
        values.append([statistics.fmean(one[query] for one in of_seeds) for query in query_ids] if found else None)
        cells.append(_averaged([measured.aggregated[column.measure] for measured in found]))
    comparisons = test.compare(values, [row.label for row in rows], references)
    for position, comparison in enumerate(comparisons):
        if comparison is not None:
            is_significant = comparison.p_value < test.alpha
            marker = (BETTER if comparison.difference > 0 else WORSE) if is_significant else ""
            cells[position] = dataclasses.replace(cells[position], comparison=comparison, marker=marker)
    return _best(cells)


def _averaged(values: Sequence[float]) -> Cell:
    if not values:
        return Cell(None)
    return Cell(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def _mean(row: Row, measure: str, cells: Sequence[Sequence[Cell]], position: int) -> Cell:
    """A row's mean over the collections; with a deviation if each has the same seeds."""
    values = [column[position].value for column in cells]
    if None in values:
        return Cell(None)
    by_seed: dict[int | None, list[float]] = {}
    for result in row.results:
        by_seed.setdefault(result.seed, []).append(result.measured.aggregated[measure])
    if all(len(found) == len(values) for found in by_seed.values()):
        return _averaged([statistics.fmean(found) for found in by_seed.values()])
    return Cell(statistics.fmean(value for value in values if value is not None))


def _best(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, with the best ones marked: all that are equal with four decimals; a single row is not."""
    best = max((cell.value for cell in cells if cell.value is not None), default=0.0)
    return [
        dataclasses.replace(cell, is_best=cell.value is not None and f"{cell.value:.4f}" == f"{best:.4f}")
        if len(cells) > 1
        else cell
        for cell in cells
    ]


def _check_results(results: Sequence[Result], measures: Sequence[str]) -> None:
    if not results:
        raise UserError("a table needs at least one row")
    places = [(result.label, result.column, result.seed) for result in results]
    if twice := sorted({label for label, column, seed in places if places.count((label, column, seed)) > 1}):
        raise UserError(f"two rows have the label {twice[0]!r}; give each its own")
    for result in results:
        lacking = [measure for measure in measures if measure not in result.measured.per_query]
        if lacking:
            raise UserError(
                f"row {result.label!r} was not evaluated with {', '.join(lacking)}, only with "
                f"{', '.join(result.measured.per_query)}: run stage=evaluate with the same evaluation.measures for all"
            )
    firsts: dict[str, Result] = {}
    for result in results:
        _check_comparable(firsts.setdefault(result.column, result), result)


def _check_comparable(first: Result, other: Result) -> None:
    """Refuse two rows of a column that were not measured under the same conditions."""
    rows = f"rows {first.label!r} and {other.label!r}"
    if differing := sorted(set(first.measured.query_ids) ^ set(other.measured.query_ids)):
        raise UserError(
            f"{rows} have different queries: {len(differing)} are in only one of them, such as {differing[0]!r}; "
            "evaluate both with the same topics"
        )
    for what, one, two in _conditions(first.measured, other.measured):
        if one != two:
            raise UserError(f"{rows} differ in {what}: {one} and {two}; evaluate both with the same topics")


def _conditions(one: Measured, other: Measured) -> list[tuple[str, object, object]]:
    """Conditions under which two rows can be compared, with the two values; without what is not known of both."""
    conditions: list[tuple[str, object, object]] = [
        ("the judgements, by digest", one.qrels_digest, other.qrels_digest),
        ("whether the document with the query's own id is dropped", one.remove_query, other.remove_query),
    ]
    known = [condition for condition in conditions if None not in condition]
    return [("the smallest relevant grade", one.relevance or 1, other.relevance or 1), *known]
