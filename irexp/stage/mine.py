"""The stage that mines hard negatives from runs; makes training examples and a histogram of what was kept and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from irexp.config.schema import Machine, Negatives
from irexp.dataset.collection import Examples
from irexp.dataset.mining import mine_negatives
from irexp.dataset.scores import PairScores
from irexp.evaluation.run_file import read_run, run_file
from irexp.pipeline.mine import candidates as opened


def mine(
    folder: Path,
    candidates: Sequence[Path],
    scores: Path | None,
    *,
    train: Examples,
    negatives: Negatives,
    machine: Machine,
    seed: int,
) -> dict[str, float]:
    """Write the training examples with mined negatives, and histogram.csv, into `folder`.

    Args:
        folder: where the files are written.
        candidates: runs over the training queries.
        scores: a re-ranker's scores of the same documents and of the positives; None to filter by the runs' scores.
        train: the training examples, which keep their own negatives.
        negatives: the filters.
        machine: whether a progress bar is shown.
        seed: decides which negatives are drawn at random.

    Returns:
        The numbers of examples, of examples without a mined negative, and of candidates for each outcome.
    """
    assert negatives.depth is not None
    runs = [opened(run_file(run), negatives.depth) for run in candidates]
    table = None if scores is None else PairScores(read_run(run_file(scores)))
    mined = mine_negatives(train, runs, table, negatives, seed=seed, shown=machine.progress)
    mined.write(folder)
    return mined.counts()
