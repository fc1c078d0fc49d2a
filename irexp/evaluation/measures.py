"""Measures of a run, per query and aggregated, computed by ir_measures over all queries of the qrels.

Measures are named as in ir_measures (https://ir-measur.es): nDCG@10, RR(rel=2)@10, AP, R@100. A query of the qrels
without results counts 0 for every measure, as with `trec_eval -c`; a query without judgements is left out.
"""

# mypy: untyped_calls_exclude=ir_measures

import hashlib
import itertools
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ir_measures

from irexp.config.measure import ENGINE as ENGINE
from irexp.config.measure import counting_from, leaves_grade_open
from irexp.config.measure import parse_measures as parse_measures
from irexp.evaluation.run_file import Rankings
from irexp.types import MOST_RELEVANT, Qrel, ScoredDoc, UserError

log = logging.getLogger(__name__)

#: Results that are passed to the engines together.
_TOGETHER = 2**16

#: What `measures.json` says of how rankings were measured.
_CONVENTIONS = ("relevance", "highest_grade", "remove_query", "qrels_digest")

#: An id that cannot be a document's.
_NO_DOCUMENT = ""

#: The best documents of a query, each with a score that decreases with its rank.
Ranked = dict[str, float]


@dataclass(frozen=True)
class Measured:
    """The values of measures for one run.

    Attributes:
        per_query: measure → query_id → value; every measure has all queries of the qrels.
        aggregated: measure → mean over all queries of the qrels (sum for NumRet, NumRel and NumQ).
        missing_queries: the number of queries of the qrels without results in the run; they count 0.
        unjudged_queries: the number of queries of the run without judgements; they are left out.
        relevance: the smallest relevant grade for measures that do not name one; None for 1.
        highest_grade: the largest grade of the qrels.
        remove_query: whether the document with the query's id was dropped from every ranking.
        qrels_digest: equal for equal qrels, whatever their order.

    The last three are None in results that an earlier version of irexp saved.
    """

    per_query: dict[str, dict[str, float]] = field(repr=False)
    aggregated: dict[str, float]
    missing_queries: int
    unjudged_queries: int
    relevance: int | None = None
    highest_grade: int | None = None
    remove_query: bool | None = None
    qrels_digest: str | None = None

    @property
    def query_ids(self) -> tuple[str, ...]:
        """The queries evaluated, in the order of the qrels."""
        return tuple(next(iter(self.per_query.values())))


def relevance_by_query(qrels: Iterable[Qrel]) -> dict[str, dict[str, int]]:
    """The judgements as query → document → relevance.

    Raises:
        UserError: if two judgements contradict each other, or a grade is too large.
    """
    relevance_of: dict[str, dict[str, int]] = {}
    for query_id, doc_id, relevance in qrels:
        judged = relevance_of.setdefault(query_id, {})
        if judged.setdefault(doc_id, relevance) != relevance:
            raise UserError(
                f"the qrels contradict themselves: query {query_id!r}, document {doc_id!r} has the relevance "
                f"{judged[doc_id]} and {relevance}; keep one of them"
            )
        if abs(relevance) > MOST_RELEVANT:
            raise UserError(
                f"the qrels give document {doc_id!r} of query {query_id!r} the relevance {relevance}, which is above "
                f"{MOST_RELEVANT:,}, the largest that measures can count; use smaller grades"
            )
    return relevance_of


def evaluate(
    run: Iterable[ScoredDoc],
    qrels: Iterable[Qrel],
    measures: Sequence[ir_measures.Measure],
    *,
    relevance: int | None = None,
    remove_query: bool = False,
    run_name: str = "the run",
) -> Measured:
    """Measure a run, ranked by score descending, then document id; the order of its lines does not matter.

    Args:
        run: about 30 bytes per line are held in memory, and the ids.
        qrels: negative grades have trec_eval's meaning: not relevant, and unjudged for Bpref and infAP.
        measures: the measures to compute.
        relevance: the smallest relevant grade for binary measures that do not name one, as the collection's authors
            define it; None for 1.
        remove_query: whether to drop the document with the query's id from every ranking.
        run_name: the run's file, for messages.

    Raises:
        UserError: if the run and the qrels have no query in common, no document is relevant (at the grade of a
            measure), the run has a duplicate document for a query or the score NaN, or judgements contradict each
            other.
    """
    names, relevance_of = check_judgements(qrels, measures, relevance)
    lines = _Lines(run, relevance_of, remove_query=remove_query)
    rankings = Rankings(lines)
    if not lines.judged and not lines.unjudged:
        raise UserError(f"{run_name} is empty: it has no results of any query; check its file, or make it again")
    if not lines.judged:
        raise UserError(
            f"{run_name} and the qrels have no query in common: of {len(lines.unjudged)} queries in the run, such as "
            f"{_sample(lines.unjudged)}, none is among the {len(relevance_of)} of the qrels, such as "
            f"{_sample(relevance_of)}; evaluate the run with the qrels of its own collection"
        )
    per_query = {str(measure): dict.fromkeys(relevance_of, 0.0) for measure in measures}
    is_known = False
    for part in _parts(rankings):
        is_known = is_known or any(not relevance_of[query].keys().isdisjoint(found) for query, found in part.items())
        judged = {query_id: _for_engine(relevance_of[query_id]) for query_id in part}
        for metric in itertools.chain.from_iterable(ENGINE.iter_calc(group, judged, part) for group in _groups(names)):
            for name in names[metric.measure]:
                per_query[name][metric.query_id] = float(metric.value)
    if not is_known:
        _warn_of_other_ids(rankings, relevance_of)
    missing, highest = len(relevance_of) - len(rankings), _highest(relevance_of)
    _log_what_counts(lines, measures, judged=len(relevance_of), missing=missing, relevance=relevance, highest=highest)
    aggregated = {str(measure): _aggregate(measure, per_query[str(measure)]) for measure in measures}
    return Measured(
        per_query,
        aggregated,
        missing,
        len(lines.unjudged),
        relevance,
        highest_grade=highest,
        remove_query=remove_query,
        qrels_digest=_digest(relevance_of),
    )


def check_judgements(
    qrels: Iterable[Qrel], measures: Sequence[ir_measures.Measure], relevance: int | None
) -> tuple[dict[ir_measures.Measure, list[str]], dict[str, dict[str, int]]]:
    """Check judgements before a run is evaluated by them.

    Returns:
        The names of each measure as it counts here, and the grades of each query's documents.

    Raises:
        UserError: if no document is relevant (at the grade of a measure), or judgements contradict each other.
    """
    names: dict[ir_measures.Measure, list[str]] = {}
    for measure in measures:
        counted = measure if relevance is None else counting_from(measure, relevance)
        names.setdefault(counted, []).append(str(measure))
    relevance_of = relevance_by_query(qrels)
    _check_relevance(relevance_of, list(names))
    return names, relevance_of


def save_measured(folder: Path, measured: Measured) -> None:
    """Write `per_query.tsv` (query_id, measure, value) and `measures.json` (the rest) into an existing folder."""
    for query_id in measured.query_ids:
        if any(character in query_id for character in "\t\n\r"):
            raise UserError(f"per_query.tsv cannot hold the query_id {query_id!r}, which has a tab or a line break")
    with (folder / "per_query.tsv").open("w", encoding="utf-8", newline="\n") as file:
        for query_id in measured.query_ids:
            for measure, value_of in measured.per_query.items():
                file.write(f"{query_id}\t{measure}\t{value_of[query_id]!r}\n")
    rest = {
        "aggregated": measured.aggregated,
        "queries": len(measured.query_ids),
        "missing_queries": measured.missing_queries,
        "unjudged_queries": measured.unjudged_queries,
        **{key: value for key in _CONVENTIONS if (value := getattr(measured, key)) is not None},
    }
    (folder / "measures.json").write_text(json.dumps(rest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_measured(folder: Path) -> Measured:
    """Read what `save_measured` wrote.

    Raises:
        UserError: if a file is missing or malformed, or the two contradict each other.
    """
    try:
        rest = json.loads((folder / "measures.json").read_text(encoding="utf-8"))
        per_query: dict[str, dict[str, float]] = {measure: {} for measure in rest["aggregated"]}
        with (folder / "per_query.tsv").open(encoding="utf-8") as file:
            for line in file:
                query_id, measure, value = line.rstrip("\n").split("\t")
                per_query[measure][query_id] = float(value)
        counts = rest["missing_queries"], rest["unjudged_queries"]
        conventions = {key: rest.get(key) for key in _CONVENTIONS}
        measured = Measured(per_query, rest["aggregated"], *counts, **conventions)
        queries = rest["queries"]
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: there are no measures here; run stage=evaluate") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: the measures cannot be read ({error!r}); run stage=evaluate again") from error
    if not per_query or any(value_of.keys() != set(measured.query_ids) for value_of in per_query.values()):
        raise UserError(f"{folder / 'per_query.tsv'}: not every query has every measure; run stage=evaluate again")
    if len(measured.query_ids) != queries:
        raise UserError(
            f"{folder / 'per_query.tsv'}: {len(measured.query_ids)} queries, but measures.json says {queries}; "
            "run stage=evaluate again"
        )
    return measured


def _check_relevance(relevance_of: Mapping[str, Mapping[str, int]], measures: Sequence[ir_measures.Measure]) -> None:
    highest = _highest(relevance_of)
    if not relevance_of:
        raise UserError("dataset.test has no judgements, so that no run can be evaluated; leave out stage=evaluate")
    if highest < 1:
        raise UserError(f"no document is relevant in the qrels ({len(relevance_of)} queries): every measure would be 0")
    for measure in measures:
        threshold = measure.params.get("rel", 1)
        if threshold > highest:
            raise UserError(
                f"{measure} counts grades from {threshold}, but the largest in the qrels is {highest}: it would be 0 "
                "for every query; choose measures for this collection (evaluation.measures)"
            )


def _highest(relevance_of: Mapping[str, Mapping[str, int]]) -> int:
    return max((relevance for judged in relevance_of.values() for relevance in judged.values()), default=0)


def _digest(relevance_of: Mapping[str, Mapping[str, int]]) -> str:
    """Eight hexadecimal digits of SHA-256 over the judgements, query by query."""
    digest = hashlib.sha256()
    for query_id, judged in sorted(relevance_of.items()):
        digest.update(json.dumps([query_id, sorted(judged.items())]).encode())
    return digest.hexdigest()[:8]


def _groups(measures: Iterable[ir_measures.Measure]) -> list[list[ir_measures.Measure]]:
    """Groups of measures with the same results and gains.

    Computed together, ir_measures would give nDCG, NumRet and NumQ the results and gains of another measure.
    """
    groups: dict[str, list[ir_measures.Measure]] = {}
    for measure in measures:
        groups.setdefault(repr([measure.params.get(key) for key in ("judged_only", "gains")]), []).append(measure)
    return list(groups.values())


def _for_engine(judged: dict[str, int]) -> dict[str, int]:
    """The judgements of a query, with at least one that is not negative, or trec_eval writes beyond its memory."""
    return judged if max(judged.values()) >= 0 else {**judged, _NO_DOCUMENT: 0}


class _Lines:
    """The lines of a run that count; after iteration, also the numbers of those left out."""

    def __init__(
        self, run: Iterable[ScoredDoc], relevance_of: Mapping[str, Mapping[str, int]], *, remove_query: bool
    ) -> None:
        self._run, self._relevance_of, self._remove_query = run, relevance_of, remove_query
        self.unjudged: dict[str, None] = {}  # in the order of the run
        self.judged = self.removed = 0

    def __iter__(self) -> Iterator[ScoredDoc]:
        for scored in self._run:
            if scored.query_id not in self._relevance_of:
                self.unjudged[scored.query_id] = None
                continue
            if math.isnan(scored.score):
                where = f"query {scored.query_id!r}, document {scored.doc_id!r}"
                raise UserError(f"the run has the score NaN for {where}; create the run again")
            self.judged += 1
            if self._remove_query and scored.doc_id == scored.query_id:
                self.removed += 1
            else:
                yield scored


def _log_what_counts(
    lines: _Lines,
    measures: Sequence[ir_measures.Measure],
    *,
    judged: int,
    missing: int,
    relevance: int | None,
    highest: int,
) -> None:
    """Log which queries and results are left out or count 0, and from which grade a document is relevant."""
    if missing:
        log.warning("%d of the %d judged queries have no results in the run and count 0", missing, judged)
    if lines.unjudged:
        log.warning("%d queries of the run have no judgement and are not counted", len(lines.unjudged))
    if lines.removed:
        log.info("%d results have the query's own id and are left out", lines.removed)
    if highest > 1 and (graded := ", ".join(str(measure) for measure in measures if leaves_grade_open(measure))):
        log.info("grades from %d count as relevant in %s; the highest is %d", relevance or 1, graded, highest)


def _warn_of_other_ids(rankings: Rankings, relevance_of: Mapping[str, Mapping[str, int]]) -> None:
    log.warning(
        "no result of the run is judged for its query, so that no measure of relevance is above 0: are the ids of its "
        "documents, such as %s, those of the qrels, such as %s?",
        _sample(doc_id for _, found in rankings for doc_id in found),
        _sample(doc_id for found in relevance_of.values() for doc_id in found),
    )


def _parts(rankings: Iterable[tuple[str, list[str]]]) -> Iterator[dict[str, Ranked]]:
    """Groups of queries with their documents.

    Scores are replaced by ranks: engines break ties differently, and trec_eval rounds scores to 32 bits.
    """
    part: dict[str, Ranked] = {}
    results = 0
    for query_id, doc_ids in rankings:
        part[query_id] = {doc_id: float(len(doc_ids) - rank) for rank, doc_id in enumerate(doc_ids)}
        results += len(doc_ids)
        if results >= _TOGETHER:
            yield part
            part, results = {}, 0
    if part:
        yield part


def _sample(query_ids: Iterable[str]) -> str:
    return ", ".join(repr(query_id) for query_id in itertools.islice(query_ids, 3)) or "none"


def _aggregate(measure: ir_measures.Measure, value_of: Mapping[str, float]) -> float:
    aggregator = measure.aggregator()
    for value in value_of.values():
        aggregator.add(value)
    return float(aggregator.result())
