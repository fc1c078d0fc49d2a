"""Measures of a run per query and aggregated, computed by ir_measures over all queries of the qrels.

A measure is named as in ir_measures (https://ir-measur.es): nDCG@10, RR(rel=2)@10, AP, R@100. A query of the qrels that
the run does not answer counts 0 for every measure, as with `trec_eval -c`; a query without judgements is left out.
"""

# mypy: untyped_calls_exclude=ir_measures

import itertools
import json
import logging
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ir_measures

from irexp.config.measure import ENGINE as ENGINE
from irexp.config.measure import parse_measures as parse_measures
from irexp.evaluation.run_file import in_rank_order
from irexp.types import Qrel, ScoredDoc, UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """What `evaluate` found.

    Attributes:
        per_query: measure → query_id → value; every measure has the same queries, those of the qrels.
        aggregated: measure → the mean over all queries of the qrels (for NumRet, NumRel and NumQ the sum).
        missing_queries: how many queries of the qrels have no result in the run; they count 0.
        unjudged_queries: how many queries of the run have no judgement; they are left out.
    """

    per_query: dict[str, dict[str, float]]
    aggregated: dict[str, float]
    missing_queries: int
    unjudged_queries: int

    @property
    def query_ids(self) -> tuple[str, ...]:
        """The queries evaluated, in the order of the qrels."""
        return tuple(next(iter(self.per_query.values())))


def relevance_by_query(qrels: Iterable[Qrel]) -> dict[str, dict[str, int]]:
    """The judgements as query → document → relevance.

    Raises:
        UserError: if two judgements contradict each other.
    """
    relevance_of: dict[str, dict[str, int]] = {}
    for query_id, doc_id, relevance in qrels:
        judged = relevance_of.setdefault(query_id, {})
        if judged.setdefault(doc_id, relevance) != relevance:
            raise UserError(
                f"the qrels contradict themselves: query {query_id!r}, document {doc_id!r} has the relevance "
                f"{judged[doc_id]} and {relevance}; keep one of the two"
            )
    return relevance_of


def evaluate(run: Iterable[ScoredDoc], qrels: Iterable[Qrel], measures: Sequence[ir_measures.Measure]) -> Measured:
    """Measure a run, ranked by score descending and then document id, whatever the order of its lines.

    Raises:
        UserError: if the run and the qrels have no query in common, nothing is relevant (or not as relevant as a
            measure asks), the run has a document twice for a query or the score NaN, or two judgements contradict
            each other.
    """
    relevance_of = relevance_by_query(qrels)
    _check_relevance(relevance_of, measures)
    score_of, unjudged = _score_of(run, relevance_of)
    if not score_of:
        raise UserError(
            f"run and qrels have no query in common: of {len(unjudged)} queries in the run, such as "
            f"{_sample(unjudged)}, none is among the {len(relevance_of)} of the qrels, such as "
            f"{_sample(relevance_of)}; evaluate the run with the qrels of its own collection"
        )
    # Ranks stand in for scores: the engines break ties each in its own way, and trec_eval rounds scores to 32 bits.
    rank_score_of = {
        query_id: {doc_id: float(len(scores) - rank) for rank, doc_id in enumerate(in_rank_order(scores))}
        for query_id, scores in score_of.items()
    }
    per_query = {str(measure): dict.fromkeys(relevance_of, 0.0) for measure in measures}
    for metric in ENGINE.iter_calc(measures, relevance_of, rank_score_of):
        per_query[str(metric.measure)][metric.query_id] = float(metric.value)
    missing = len(relevance_of) - len(score_of)
    if missing:
        log.warning("%d of the %d judged queries have no result in the run and count 0", missing, len(relevance_of))
    if unjudged:
        log.info("%d queries of the run have no judgement and are left out", len(unjudged))
    aggregated = {str(measure): _aggregate(measure, per_query[str(measure)]) for measure in measures}
    return Measured(per_query, aggregated, missing, len(unjudged))


def save_measured(folder: Path, measured: Measured) -> None:
    """Write `per_query.tsv` (query_id, measure, value) and `measures.json` (the rest) into an existing folder."""
    for query_id in measured.query_ids:
        if any(character in query_id for character in "\t\n\r"):
            raise UserError(f"the query_id {query_id!r} holds a tab or a line break and cannot stand in per_query.tsv")
    with (folder / "per_query.tsv").open("w", encoding="utf-8", newline="\n") as file:
        for query_id in measured.query_ids:
            for measure, value_of in measured.per_query.items():
                file.write(f"{query_id}\t{measure}\t{value_of[query_id]!r}\n")
    rest = {
        "aggregated": measured.aggregated,
        "queries": len(measured.query_ids),
        "missing_queries": measured.missing_queries,
        "unjudged_queries": measured.unjudged_queries,
    }
    (folder / "measures.json").write_text(json.dumps(rest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_measured(folder: Path) -> Measured:
    """Read what `save_measured` wrote.

    Raises:
        UserError: if a file is missing, malformed or does not hold what the other says.
    """
    try:
        rest = json.loads((folder / "measures.json").read_text(encoding="utf-8"))
        per_query: dict[str, dict[str, float]] = {measure: {} for measure in rest["aggregated"]}
        with (folder / "per_query.tsv").open(encoding="utf-8") as file:
            for line in file:
                query_id, measure, value = line.rstrip("\n").split("\t")
                per_query[measure][query_id] = float(value)
        measured = Measured(per_query, rest["aggregated"], rest["missing_queries"], rest["unjudged_queries"])
        queries = rest["queries"]
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: there are no measures here; make them with stage=evaluate") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder}: the measures cannot be read ({error!r}); make them again with stage=evaluate"
        ) from error
    if not per_query or any(value_of.keys() != set(measured.query_ids) for value_of in per_query.values()):
        raise UserError(f"{folder / 'per_query.tsv'}: not every query has every measure; run stage=evaluate again")
    if len(measured.query_ids) != queries:
        raise UserError(
            f"{folder / 'per_query.tsv'}: {len(measured.query_ids)} queries where measures.json says {queries}; "
            "run stage=evaluate again"
        )
    return measured


def _check_relevance(relevance_of: Mapping[str, Mapping[str, int]], measures: Sequence[ir_measures.Measure]) -> None:
    highest = max((relevance for judged in relevance_of.values() for relevance in judged.values()), default=0)
    if highest < 1:
        raise UserError(f"no document is relevant in the qrels ({len(relevance_of)} queries): every measure would be 0")
    for measure in measures:
        threshold = measure["rel"] if "rel" in measure.SUPPORTED_PARAMS else 1
        if threshold > highest:
            raise UserError(
                f"{measure} counts a relevance of {threshold} and more, but the qrels go up to {highest}: it would be "
                "0 for every query; choose measures for this collection (evaluation.measures)"
            )


def _score_of(
    run: Iterable[ScoredDoc], judged_queries: Container[str]
) -> tuple[dict[str, dict[str, float]], dict[str, None]]:
    """The scores of the judged queries, and the other queries in the order of the run."""
    score_of: dict[str, dict[str, float]] = {}
    unjudged: dict[str, None] = {}
    for query_id, doc_id, score in run:
        if query_id not in judged_queries:
            unjudged[query_id] = None
            continue
        scores = score_of.setdefault(query_id, {})
        if doc_id in scores:
            raise UserError(f"the run has document {doc_id!r} twice for query {query_id!r}; keep one of the two")
        if math.isnan(score):
            raise UserError(f"the run has the score NaN for query {query_id!r}, document {doc_id!r}; make it again")
        scores[doc_id] = score
    return score_of, unjudged


def _sample(query_ids: Iterable[str]) -> str:
    return ", ".join(repr(query_id) for query_id in itertools.islice(query_ids, 3)) or "none"


def _aggregate(measure: ir_measures.Measure, value_of: Mapping[str, float]) -> float:
    aggregator = measure.aggregator()
    for value in value_of.values():
        aggregator.add(value)
    return float(aggregator.result())
