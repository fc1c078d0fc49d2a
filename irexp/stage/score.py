"""The stage that scores training examples with a model, for a student or for stage=mine; a killed one resumes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from irexp.config.schema import Machine, Score
from irexp.dataset.collection import Documents, Examples
from irexp.evaluation.run_file import RUN, read_heads, run_file, write_run
from irexp.model.model import Model
from irexp.pipeline.machine import is_helper
from irexp.pipeline.precision import prepare_scorer
from irexp.pipeline.re_rank import score_candidates
from irexp.pipeline.score import pairs_of
from irexp.stage.checkpoint import open_model

#: The folder with what is scored, until all is.
_WORK = ".scored"


def score(
    folder: Path,
    checkpoint: str,
    candidates: Sequence[Path] | None,
    *,
    model: partial[Model],
    documents: Documents,
    train: Examples,
    score: Score,
    machine: Machine,
) -> dict[str, float]:
    """Score the documents of the training examples and of runs, and write the scores as a run into `folder`.

    Args:
        folder: where the run is written.
        checkpoint: the folder or the hub name of the model.
        candidates: runs over the training queries, whose top documents are scored, too.
        model: the settings of which the text lengths are used.
        documents: the collection.
        train: the training examples.
        score: the depth and the precision.
        machine: where it runs.

    Returns:
        The numbers of queries and of scored pairs.
    """
    rankings = []
    for run in candidates or ():
        assert score.depth is not None
        rankings.append(read_heads(run_file(run), score.depth))
    pairs = pairs_of(train, documents, rankings)
    scorer = open_model(checkpoint, model)
    in_precision = prepare_scorer(scorer, machine, "score.precision", score.precision)
    texts, work = train.texts(documents), folder / _WORK
    found = score_candidates(scorer, pairs, texts, machine=machine, work=work, in_precision=in_precision)
    if is_helper(machine):
        return {}
    write_run(folder / RUN, found, tag="irexp")
    shutil.rmtree(work, ignore_errors=True)
    return {"queries": float(len(pairs)), "pairs": float(len(found))}
