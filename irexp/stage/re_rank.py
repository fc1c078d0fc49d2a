"""The stage that re-ranks a run: any model scores the top documents per query."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from irexp.config.schema import Machine, ReRank
from irexp.dataset.collection import Documents, Topics
from irexp.evaluation.run_file import RUN, run_file, write_run
from irexp.model.model import Model
from irexp.pipeline.re_rank import check_depth
from irexp.pipeline.re_rank import re_rank as re_rank_run
from irexp.stage.checkpoint import open_model


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
    scorer = open_model(checkpoint, model)
    found = re_rank_run(scorer, run_file(candidates), topics, documents, depth=re_rank.depth, machine=machine)
    write_run(folder / RUN, found, tag="irexp")
    queries, answered = sum(1 for _ in topics.queries()), len({scored.query_id for scored in found})
    return {
        "queries": float(queries),
        "pairs": float(len(found)),
        "queries_without_candidate": float(queries - answered),
    }
