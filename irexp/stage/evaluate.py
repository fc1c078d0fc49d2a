"""The stage that makes measures: a run against the judgements, per query and aggregated."""

from __future__ import annotations

import logging
from pathlib import Path

from irexp.config.schema import Evaluation
from irexp.dataset.collection import Topics
from irexp.evaluation.measures import evaluate as evaluate_run
from irexp.evaluation.measures import parse_measures, save_measured
from irexp.evaluation.run_file import read_run
from irexp.stage.run import run_file

log = logging.getLogger(__name__)


def evaluate(folder: Path, run: Path, *, topics: Topics, evaluation: Evaluation) -> dict[str, float]:
    """Measure a run, an artifact or a file from elsewhere, over all queries of the judgements.

    Returns:
        The measures by name.
    """
    measures = parse_measures(evaluation.measures)
    file = run_file(run)
    measured = evaluate_run(
        read_run(file), topics.qrels(), measures, relevance=topics.relevance, remove_query=topics.remove_query
    )
    if measured.unjudged_queries:
        log.warning("%d queries of %s have no judgement and do not count", measured.unjudged_queries, file)
    save_measured(folder, measured)
    return measured.aggregated
