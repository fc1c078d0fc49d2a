"""The stage that fuses several runs into one."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from irexp.config.schema import Fuse
from irexp.dataset.collection import Topics
from irexp.evaluation.fusion import best_weights, by_query
from irexp.evaluation.fusion import fuse as fuse_scores
from irexp.evaluation.measures import parse_measures
from irexp.evaluation.run_file import RUN, in_rank_order, read_run, run_file, write_run
from irexp.types import ScoredDoc, UserError

log = logging.getLogger(__name__)

#: The file of the weights, in the run's folder.
WEIGHTS = "weights.json"


def fuse(
    folder: Path, fused: Sequence[Path], fused_dev: Sequence[Path] | None, *, topics: Topics, dev: Topics, fuse: Fuse
) -> dict[str, float]:
    """Fuse runs over the test queries; weights that are not given are tuned on the development queries.

    Returns:
        The number of queries, and the weight of each run.
    """
    runs = [by_query(read_run(run_file(path))) for path in fused]
    wanted = [query.query_id for query in topics.queries()]
    runs = [{query: run[query] for query in wanted if query in run} for run in runs]
    for path, run in zip(fused, runs, strict=True):
        if len(run) < len(wanted):
            log.warning("%s answers %d of %d queries", path, len(run), len(wanted))
    if not all(runs):
        raise UserError(
            f"{fused[[bool(run) for run in runs].index(False)]} answers none of the queries of dataset.test; "
            "give runs over these queries"
        )
    weights = fuse.weights
    if fuse.method == "wsum" and weights is None:
        assert fused_dev is not None
        dev_runs = [by_query(read_run(run_file(path))) for path in fused_dev]
        (measure,) = parse_measures([fuse.measure])
        weights = best_weights(
            dev_runs,
            dev.qrels(),
            norm=fuse.norm,
            measure=measure,
            step=fuse.step,
            relevance=dev.relevance,
            remove_query=dev.remove_query,
        )
        log.info("best weights on the development queries: %s", weights)
    scores = fuse_scores(runs, method=fuse.method, norm=fuse.norm, k=fuse.k, weights=weights)
    lines = []
    for query in wanted:
        score_of = scores.get(query, {})
        lines += [ScoredDoc(query, doc_id, score_of[doc_id]) for doc_id in in_rank_order(score_of)[: fuse.depth]]
    write_run(folder / RUN, lines, tag="irexp")
    measured = {"queries": float(len(wanted))}
    if weights is not None and fuse.method == "wsum":
        (folder / WEIGHTS).write_text(json.dumps(list(weights)) + "\n", encoding="utf8")
        measured |= {f"weight_{number}": float(weight) for number, weight in enumerate(weights, 1)}
    return measured
