"""The footer of a table: what its markers mean, and which conventions its numbers follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from irexp.config.measure import leaves_grade_open, leaves_out_unjudged
from irexp.evaluation.comparison import BETTER, WORSE, Significance
from irexp.evaluation.measures import parse_measures

if TYPE_CHECKING:
    from irexp.evaluation.table import Result, Row


def foot(
    rows: Sequence[Row],
    measures: Sequence[str],
    *,
    test: Significance,
    references: Sequence[str],
    notes: Sequence[str],
    left_out: Mapping[str, Sequence[str]],
    has_means: bool,
) -> str:
    """The footer.

    Args:
        rows: all rows.
        measures: the names of the measures.
        test: how rows were compared.
        references: per row, the label of the row that it was compared with; its own for none.
        notes: sentences that only the caller knows.
        left_out: by collection, the measures that only some of its rows have, which are not in the table.
        has_means: whether the last columns are means over the collections.
    """
    results = [result for row in rows for result in row.results]
    collections = list(dict.fromkeys(result.column for result in results))
    parts = _comparisons(rows, test, references, collections)
    if len(rows) > 1:
        parts.append("Bold: the best of a column.")
    parts.append(_queries(results, collections))
    parts += _by_collection(results, collections, lambda found: _conventions(found, measures))
    parts += _missing(results, is_one=len(collections) == 1)
    parts += _seeds(rows)
    if any(not row.of(collection) for row in rows for collection in collections):
        parts.append("–: not measured.")
    parts += ["Means over the collections are not tested."] if has_means and len(rows) > 1 else []
    parts += _left_out(left_out)
    parts += [_one_line(note) for note in notes]
    parts += [*_unjudged(measures), "Ties: score descending, then document id."]
    return " ".join(parts)


def _comparisons(
    rows: Sequence[Row], test: Significance, references: Sequence[str], collections: Sequence[str]
) -> list[str]:
    """What the markers mean."""
    pairs = [(row, reference) for row, reference in zip(rows, references, strict=True) if row.label != reference]
    row_of = {row.label: row for row in rows}
    counts = [sum(bool(row.of(name) and row_of[other].of(name)) for row, other in pairs) for name in collections]
    if not any(counts):
        return []
    than = _one_line(pairs[0][1])
    if len({reference for _, reference in pairs}) > 1:
        named = [f"{_one_line(row.label)} with {_one_line(reference)}" for row, reference in pairs]
        than = f"the row that it is compared with ({', '.join(named)})"
    if len(set(counts)) > 1:
        over = f"comparisons of each column (at most {max(counts)})"
    else:
        over = f"{counts[0]} comparison{'s' if counts[0] > 1 else ''} of each "
        over += "measure" if len(collections) == 1 else "column"
    return [
        f"{BETTER} significantly better, {WORSE} significantly worse than {than}: {test.describe()} over the {over}, "
        f"alpha = {test.alpha:g}."
    ]


def _queries(results: Sequence[Result], collections: Sequence[str]) -> str:
    counts = {result.column: len(result.measured.query_ids) for result in reversed(results)}
    if len(collections) == 1:
        (count,) = counts.values()
        shown = f"{count} {'queries' if count > 1 else 'query'}"
    else:
        shown = "Queries: " + ", ".join(f"{_one_line(name)} {counts[name]}" for name in collections)
    return f"{shown}, all of the qrels; one without results counts 0."


def _by_collection(
    results: Sequence[Result], collections: Sequence[str], describe: Callable[[Sequence[Result]], list[str]]
) -> list[str]:
    """Sentences on each collection, without its name if they hold for all."""
    said = {name: describe([result for result in results if result.column == name]) for name in collections}
    sentences = list(dict.fromkeys(sentence for found in said.values() for sentence in found))
    parts = []
    for sentence in sentences:
        names = [_one_line(name) for name in collections if sentence in said[name]]
        parts.append(sentence if len(names) == len(collections) else f"{', '.join(names)}: {sentence}")
    return parts


def _conventions(results: Sequence[Result], measures: Sequence[str]) -> list[str]:
    """What decides which results count, where it is not obvious."""
    parts = []
    relevance = results[0].measured.relevance
    highest = max(result.measured.highest_grade or 0 for result in results)
    if relevance or (highest > 1 and any(map(leaves_grade_open, parse_measures(measures)))):
        end = f" (the highest is {highest})" if highest else ""
        parts.append(
            f"Measures of relevant documents that do not name a grade count grades from {relevance or 1}{end}."
        )
    if any(result.measured.remove_query for result in results):
        parts.append("The document with the query's own id is not a result.")
    return parts


def _missing(results: Sequence[Result], *, is_one: bool) -> list[str]:
    """How many queries a row does not answer; equal numbers of seeds once."""
    sentences = [
        f"Without results in {_one_line(result.label)}{'' if is_one else f' on {_one_line(result.column)}'}: "
        f"{result.measured.missing_queries}."
        for result in results
        if result.measured.missing_queries
    ]
    return list(dict.fromkeys(sentences))


def _seeds(rows: Sequence[Row]) -> list[str]:
    """How many seeds were averaged, of each row and collection if that differs."""
    counts_of = {row.label: Counter(result.column for result in row.results) for row in rows}
    several = {label: counts for label, counts in counts_of.items() if max(counts.values()) > 1}
    if not several:
        return []
    numbers = {number for counts in several.values() for number in counts.values()}
    if len(numbers) == 1:
        shown = f"{numbers.pop()} seeds"
    else:
        named = ", ".join(f"{_one_line(label)} {_numbers(found)}" for label, found in several.items())
        shown = f"several seeds ({named})"
    return [f"±: mean and standard deviation of {shown}; tests take each query's mean over the seeds."]


def _numbers(counts: Mapping[str, int]) -> str:
    """The number of seeds, or the number on each collection."""
    if len(set(counts.values())) == 1:
        return str(next(iter(counts.values())))
    return " and ".join(f"{number} on {_one_line(column)}" for column, number in counts.items())


def _left_out(measures_of: Mapping[str, Sequence[str]]) -> list[str]:
    """The measures that are not in the table."""
    parts = []
    for names in dict.fromkeys(map(tuple, measures_of.values())):
        collections = [_one_line(name) for name, found in measures_of.items() if tuple(found) == names]
        where = "" if len(collections) == len(measures_of) else f" on {', '.join(collections)}"
        parts += [f"Not shown, since only some rows have it{where}: {', '.join(names)}."] if names else []
    return parts


def _unjudged(measures: Sequence[str]) -> list[str]:
    """How documents without a judgement count."""
    parsed = parse_measures(measures)
    without = [str(measure) for measure in parsed if leaves_out_unjudged(measure)]
    but = f", except in {' and '.join(without)}, where they are left out" if without else ""
    counted = f"Unjudged documents count as not relevant{but}." if len(without) < len(parsed) else ""
    estimated = any(measure.NAME == "infAP" for measure in parsed)
    return [
        counted or "Unjudged documents are left out.",
        *(["infAP estimates how many documents with a grade below 0 are relevant."] if estimated else []),
    ]


def _one_line(text: str) -> str:
    return " ".join(text.split())
