"""What a report's page says of two rows: differences per query, and the texts of the queries that changed most."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from irexp.artifact.lineage import Lineage
from irexp.evaluation.significance import ROUNDING
from irexp.evaluation.table import MEAN, Table
from irexp.report_page.difference import DOCUMENTS, QUERIES, Change, Difference, Shown
from irexp.report_page.table import column_title
from irexp.stage.page_texts import Heads, Texts, read_heads_of, read_texts
from irexp.stage.pivot import Pivoted

log = logging.getLogger(__name__)

#: The most comparisons of two rows in a column that a page holds: with all texts about 70 kB each.
COMPARISONS = 40


@dataclass(frozen=True)
class _Pair:
    """Two rows in a column, with the values of each query, and the differences from the largest to the smallest."""

    row: int
    other: int
    column: int
    values: Mapping[str, float]
    other_values: Mapping[str, float]
    bars: tuple[tuple[str, float], ...]

    @property
    def improved(self) -> list[str]:
        """The queries that gained most."""
        return [query_id for query_id, value in self.bars[:QUERIES] if value > 0]

    @property
    def hurt(self) -> list[str]:
        """The queries that lost most."""
        return [query_id for query_id, value in reversed(self.bars[-QUERIES:]) if value < 0]


def find_differences(table: Table, pivoted: Sequence[Pivoted], lineage: Lineage) -> tuple[list[Difference], int]:
    """The comparisons of two rows, those of the table first, and the number of those that are left out.

    Values are means over the seeds; documents are those of the first seed's run.
    """
    places = [
        (row, other, number)
        for row, other in _rows(table)
        for number, column in enumerate(table.columns)
        if column.collection != MEAN and all(table.rows[one].of(column.collection) for one in (row, other))
    ]
    kept = [_pair(table, *place) for place in places[:COMPARISONS]]
    found: dict[int, Difference] = {}
    for collection in dict.fromkeys(table.columns[pair.column].collection for pair in kept):
        members = [pair for pair in kept if table.columns[pair.column].collection == collection]
        first_of: dict[int, Pivoted] = {}
        for one in pivoted:
            if one.result.column == collection:
                first_of.setdefault([row.label for row in table.rows].index(one.result.label), one)
        for pair, difference in zip(members, _described(table, members, first_of, lineage), strict=True):
            found[kept.index(pair)] = difference
    return [found[position] for position in range(len(kept))], len(places) - len(kept)


def _rows(table: Table) -> list[tuple[int, int]]:
    """All pairs of rows, each once; those that the table compares come first, as it compares them."""
    labels = [row.label for row in table.rows]
    compared = [
        (number, labels.index(comparison.against))
        for number, cells in enumerate(table.cells)
        if (comparison := next((cell.comparison for cell in cells if cell.comparison), None)) is not None
    ]
    others = [(row, other) for row in range(len(labels)) for other in range(row)]
    first_of: dict[frozenset[int], tuple[int, int]] = {}
    for pair in compared + others:
        first_of.setdefault(frozenset(pair), pair)
    return list(first_of.values())


def _pair(table: Table, row: int, other: int, column: int) -> _Pair:
    """Two rows in a column in which both were measured."""
    place = table.columns[column]
    found = [table.rows[number].of(place.collection) for number in (row, other)]
    values, other_values = (
        {
            query_id: statistics.fmean(one.measured.per_query[place.measure][query_id] for one in results)
            for query_id in results[0].measured.query_ids
        }
        for results in found
    )
    by_query = {query_id: value - other_values[query_id] for query_id, value in values.items()}
    bars = [(query_id, 0.0 if abs(value) < ROUNDING else value) for query_id, value in by_query.items()]
    return _Pair(row, other, column, values, other_values, tuple(sorted(bars, key=lambda bar: -bar[1])))


def _described(
    table: Table, pairs: Sequence[_Pair], first_of: Mapping[int, Pivoted], lineage: Lineage
) -> list[Difference]:
    """Pairs of one collection with the texts of their queries and documents, each read once."""
    wanted = {query_id for pair in pairs for query_id in (*pair.improved, *pair.hurt)}
    heads = {
        row: read_heads_of(first_of[row], lineage, wanted, DOCUMENTS)
        for row in sorted({row for pair in pairs for row in (pair.row, pair.other)})
    }
    doc_ids = {doc_id for one in heads.values() for found in (one.documents or {}).values() for doc_id in found}
    texts = read_texts([f"measures/{one.folder.name}" for one in first_of.values()], lineage, wanted, doc_ids)
    return [_difference(table, pair, heads[pair.row], heads[pair.other], texts) for pair in pairs]


def _difference(table: Table, pair: _Pair, heads: Heads, other_heads: Heads, texts: Texts) -> Difference:
    labels = [table.rows[row].label for row in (pair.row, pair.other)]
    several = [table.rows[row] for row in (pair.row, pair.other)]
    collection = table.columns[pair.column].collection
    notes = [fault for fault in (texts.fault, heads.fault, other_heads.fault) if fault is not None]
    if any(len(row.of(collection)) > 1 for row in several):
        notes.append("Values are means over the seeds; the documents are those of the first seed.")

    def change(query_id: str) -> Change:
        return Change(
            query_id,
            texts.queries.get(query_id),
            pair.values[query_id],
            pair.other_values[query_id],
            _shown(query_id, heads, texts),
            _shown(query_id, other_heads, texts),
        )

    return Difference(
        pair.row,
        pair.other,
        pair.column,
        names=(labels[0], labels[1], column_title(table, table.columns[pair.column])),
        bars=pair.bars,
        improved=tuple(map(change, pair.improved)),
        hurt=tuple(map(change, pair.hurt)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _shown(query_id: str, heads: Heads, texts: Texts) -> tuple[Shown, ...] | None:
    if heads.documents is None:
        return None
    judged = texts.relevance.get(query_id, {})
    return tuple(
        Shown(doc_id, texts.documents.get(doc_id), judged.get(doc_id)) for doc_id in heads.documents.get(query_id, [])
    )
