"""The stage that re-ranks a run: any model scores the top documents per query; a killed one resumes."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from irexp.config.schema import Machine, ReRank
from irexp.dataset.collection import Documents, Topics
from irexp.evaluation.run_file import RUN, run_file, write_run
from irexp.model.model import Model
from irexp.pipeline.machine import is_helper
from irexp.pipeline.precision import prepare_scorer
from irexp.pipeline.re_rank import candidates_of, check_depth, score_candidates
from irexp.stage.checkpoint import open_model

#: The folder with what is scored, until the run is complete.
_WORK = ".scored"


def re_rank(
    folder: Path,
    candidates: Path | None,
    checkpoint: str,
    *,
    model: partial[Model],
    documents: Documents,
    topics: Topics,
    re_rank: ReRank,
    machine: Machine,
) -> dict[str, float]:
    """Score the top `re_rank.depth` documents per query of a run and write the new run into `folder`.

    Args:
        folder: where the new run is written.
        candidates: the run; None for `re_rank.candidates`, which the collection ships.
        checkpoint: the folder or the hub name of the model.
        model: the settings of which the text lengths are used.
        documents: the collection.
        topics: the queries.
        re_rank: the depth and the precision.
        machine: where it runs.

    Returns:
        The numbers of queries, of scored pairs, and of queries without a candidate; and the lengths in tokens to which
        texts were cut.
    """
    check_depth(re_rank.depth)
    assert re_rank.depth is not None
    run = run_file(candidates) if candidates is not None else re_rank.candidates
    rankings = candidates_of(run, list(topics.queries()), re_rank.depth)
    scorer = open_model(checkpoint, model)
    in_precision = prepare_scorer(scorer, machine, "re_rank.precision", re_rank.precision)
    work = folder / _WORK
    found = score_candidates(scorer, rankings, documents, machine=machine, work=work, in_precision=in_precision)
    if is_helper(machine):
        return {}
    write_run(folder / RUN, found, tag="irexp")
    shutil.rmtree(work, ignore_errors=True)
    queries, answered = len(rankings), len({scored.query_id for scored in found})
    return {
        "queries": float(queries),
        "pairs": float(len(found)),
        "queries_without_candidate": float(queries - answered),
        "query_length": float(scorer.query_length),
        "document_length": float(scorer.document_length),
    }
