"""Mine hard negatives from runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irexp.config.schema import Negatives
from irexp.dataset.mining import Candidates, MinedExamples, mine_negatives
from irexp.dataset.scores import PairScores
from irexp.dataset.sources import ExampleSource, open_examples
from irexp.evaluation.run_file import read_run, run_heads
from irexp.pipeline.component import component
from irexp.pipeline.run_source import RunSource, lines_of_run, runs_of


def mine(
    examples: ExampleSource,
    runs: Sequence[RunSource],
    *,
    scores: RunSource | None = None,
    depth: int = 100,
    seed: int = 42,
    **filters: Any,
) -> MinedExamples:
    """Add hard negatives from runs to training examples, without those that are likely to be relevant.

    Args:
        examples: what `open_examples` opens, with relevance as targets.
        runs: over the training queries: what `search` returned, or run files.
        scores: what `score` returned, or its file, to filter by; None for the scores of the runs.
        depth: documents per query and run to choose from.
        seed: decides which negatives are drawn with `keep_by="random"`.
        filters: keys of conf/negatives: `skip`, `min_score`, `max_score`, `absolute_margin`, `relative_margin`,
            `keep`, `keep_by`.

    Returns:
        Examples that `fit` takes; `histogram` counts what was kept and dropped.

    Raises:
        UserError: if nothing is left after the filters, or `runs` is not a list of runs.
    """
    settings: Negatives = component("negatives", "none", depth=depth, **filters)
    table = None if scores is None else PairScores(lines_of_run(scores))
    return mine_negatives(
        open_examples(examples), [candidates(run, depth) for run in runs_of(runs)], table, settings, seed=seed
    )


def candidates(run: RunSource, depth: int) -> Candidates:
    """A run to mine from."""
    if isinstance(run, str | Path):
        return Candidates(run_heads(read_run(Path(run)), depth), PairScores(read_run(Path(run))))
    lines = list(lines_of_run(run))
    return Candidates(run_heads(lines, depth), PairScores(lines))
