"""The stage that re-ranks a run: any model scores the top documents per query; a killed one resumes."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from irexp.config.schema import Machine, ReRank
from irexp.dataset.collection import Documents, Topics
from irexp.evaluation.run_file import RUN, run_file, write_run
from irexp.model.model import Model
from irexp.pipeline.machine import prepare
from irexp.pipeline.re_rank import candidates_of, check_depth, score_candidates
from irexp.stage.checkpoint import open_model

#: The folder with what is scored, until the run is complete.
_WORK = ".scored"


def re_rank(
    folder: Path,
    candidates: Path,
    checkpoint: str,
    *,
    model: partial[Model],
    documents: Documents,
    topics: Topics,
    re_rank: ReRank,
    machine: Machine,
) -> dict[str, float]:
    """Score the top `re_rank.depth` documents per query of a run and write the new run into `folder`.

    Returns:
        The numbers of queries, of scored pairs, and of queries without a candidate.
    """
    check_depth(re_rank.depth)
    assert re_rank.depth is not None
    rankings = candidates_of(run_file(candidates), list(topics.queries()), re_rank.depth)
    scorer = open_model(checkpoint, model).to(prepare(machine))
    found = score_candidates(scorer, rankings, documents, machine=machine, work=folder / _WORK)
    write_run(folder / RUN, found, tag="irexp")
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    queries, answered = len(rankings), len({scored.query_id for scored in found})
    return {
        "queries": float(queries),
        "pairs": float(len(found)),
        "queries_without_candidate": float(queries - answered),
    }
