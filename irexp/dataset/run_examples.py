"""A run as training data: each query with its documents and their ranks, scores or judgements as targets.

So Rank-DistiLLM (Schlatt et al. 2025, arXiv:2405.07920) distils lists that a large model has re-ranked, and any first
stage's run becomes graded lists. Lightning IR's `RunDataset` has the same targets, with ranks counted the other way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from irexp.artifact.run_lines import Rankings, read_run
from irexp.dataset.collection import DataError, ScoredDocs, Topics
from irexp.dataset.examples import ListedExamples, relevant_qrels
from irexp.dataset.text_file import resolve
from irexp.types import ScoredDoc

log = logging.getLogger(__name__)


class LocalRun(ScoredDocs):
    """A run file with TREC's six columns, or Tevatron's three."""

    def __init__(self, path: str) -> None:
        """Reads nothing yet.

        Args:
            path: the file; a final `.gz` may be omitted.
        """
        self._path = path

    def __iter__(self) -> Iterator[ScoredDoc]:
        """Stream the lines."""
        return read_run(Path(resolve(self._path)))

    def __str__(self) -> str:
        """Its name in messages."""
        return str(self._path)


class RunExamples(ListedExamples):
    """One example per query of a run: its documents, best first, each with a target."""

    def __init__(
        self,
        run: ScoredDocs,
        topics: Topics,
        *,
        targets: Literal["rank", "score", "relevance"] = "rank",
        depth: int | None = None,
    ) -> None:
        """Reads nothing before the first example is requested.

        Args:
            run: the run; queries with a single document are left out.
            topics: the queries' texts; documents that its judgements call relevant are never negatives. With its
                `remove_query` the document with the query's own id is left out.
            targets: rank: the rank times -1, so that the best document has the largest target. score: the run's
                score. relevance: the grade of the judgements, 0 for an unjudged document; the document with the
                highest grade comes first, then the others in the order of the run, at last the relevant ones that it
                missed; queries without a relevant document are left out.
            depth: the run's documents per query that are used, to which targets=relevance adds the relevant ones that
                are missing; None for all.

        Raises:
            DataError: if the depth is below 2.
        """
        super().__init__(topics)
        if depth is not None and depth < 2:
            raise DataError(f"dataset.train.depth={depth}: a list needs at least 2 documents; null uses all")
        self._run, self._targets, self._depth = run, targets, depth
        self.has_scores = targets != "relevance"
        self.is_positive_first = targets == "relevance"

    def lines(self) -> Iterator[tuple[str, list[str], list[float] | None]]:
        """One line per query, in the order of the run."""
        grades = self._grades()
        left_out, is_flat = 0, True
        assert self._topics is not None
        for query_id, score_of in Rankings(self._run).scored():
            judged = grades.get(query_id, {})
            if self._topics.remove_query:
                score_of = {doc_id: score for doc_id, score in score_of.items() if doc_id != query_id}
                judged = {doc_id: grade for doc_id, grade in judged.items() if doc_id != query_id}
            doc_ids = list(score_of)[: self._depth]
            if self._targets == "relevance":
                doc_ids = list(dict.fromkeys([*list(judged)[:1], *doc_ids, *judged]))
            if len(doc_ids) < 2 or (self._targets == "relevance" and not judged):
                left_out += 1
                continue
            targets: dict[str, list[float]] = {
                "rank": [-float(rank) for rank in range(1, len(doc_ids) + 1)],
                "score": [score_of.get(doc_id, 0.0) for doc_id in doc_ids],
                "relevance": [float(judged.get(doc_id, 0)) for doc_id in doc_ids],
            }
            is_flat = is_flat and len(set(targets[self._targets])) == 1
            yield f"{self._run}, query {query_id}", [query_id, *doc_ids], targets[self._targets]
        if left_out:
            what = "no relevant document" if self._targets == "relevance" else "a single document"
            log.warning("%d queries of %s have %s and are left out", left_out, self._run, what)
        if is_flat:
            raise DataError(
                f"{self._run}: no query has two documents with different targets, so that there is nothing to learn; "
                f"set dataset.train.targets=rank or relevance"
            )

    def _grades(self) -> dict[str, dict[str, int]]:
        """The relevant documents of each query with their grades, the largest first; empty for other targets."""
        grades: dict[str, dict[str, int]] = {}
        if self._targets == "relevance":
            assert self._topics is not None
            for qrel in relevant_qrels(self._topics):
                grades.setdefault(qrel.query_id, {})[qrel.doc_id] = qrel.relevance
        return {
            query_id: dict(sorted(judged.items(), key=lambda pair: (-pair[1], pair[0])))
            for query_id, judged in grades.items()
        }
