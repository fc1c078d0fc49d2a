"""The stage that evaluates a run against the judgements, per query and aggregated."""

from __future__ import annotations

from pathlib import Path

from irexp.config.schema import Evaluation
from irexp.dataset.collection import Topics
from irexp.evaluation.measures import save_measured
from irexp.evaluation.run_file import run_file
from irexp.pipeline.evaluate import evaluate as evaluate_run


def evaluate(folder: Path, run: Path, *, topics: Topics, evaluation: Evaluation) -> dict[str, float]:
    """Evaluate a run, an artifact or a given file, over all judged queries.

    Returns:
        The measures by name.
    """
    measured = evaluate_run(run_file(run), topics, evaluation.measures)
    save_measured(folder, measured)
    return measured.aggregated
