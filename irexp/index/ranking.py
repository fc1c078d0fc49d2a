"""Rankings of document ids from an engine's rows and scores: score descending, then document id.

An engine may cut a group of equal scores anywhere. If the cut at `depth` is within such a group, more results are
requested until the group is complete, so that ties are broken in the same way for every engine; beyond the most results
that an engine returns, there is a warning.

Shapes: B queries, K results per query.
"""

import logging
from collections.abc import Sequence, Set
from operator import gt

import numpy as np

from irexp.index.index import Index
from irexp.index.vectors import Queries, TokenVectors, count, first_faulty, take
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Documents of one query with their scores, best first.
Ranking = list[tuple[str, float]]


def rank(
    index: Index,
    queries: Queries,
    depth: int,
    *,
    doc_ids: Sequence[str],
    excluded: Set[str] = frozenset(),
) -> list[Ranking]:
    """The best `depth` documents of each query; none for a query without a vector or a term.

    Args:
        index: any engine.
        queries: the queries' vectors, or their texts if the engine takes texts.
        depth: documents per query; fewer if the engine finds fewer.
        doc_ids: the id of each row.
        excluded: documents that are left out of results, as if the index did not contain them.

    Raises:
        UserError: if a query's vector is not finite, or the engine does not return as many documents.
    """
    if first_faulty(queries) is not None:  # engines drop such scores silently
        raise UserError("the embedding of a query is not a finite number; check the checkpoint")
    rankings: list[Ranking] = [[] for _ in range(count(queries))]
    open_queries, asked, cut = _filled(queries), min(depth + 1, len(index)), 0
    while len(open_queries):
        score_BK, row_BK = index.search(take(queries, open_queries), asked)
        still_open = []
        for query, scores, rows in zip(open_queries.tolist(), score_BK, row_BK, strict=True):
            pairs = zip(rows.tolist(), scores.tolist(), strict=True)
            found = [(doc_ids[row], score) for row, score in pairs if row >= 0]
            kept = [result for result in found if result[0] not in excluded] if excluded else found
            is_whole = len(kept) > depth and kept[depth - 1][1] > found[-1][1]
            is_all = asked == len(index) or len(found) < asked
            is_cut = not is_whole and not is_all and asked == index.most_results and len(kept) >= depth
            cut += is_cut
            if is_whole or is_all or is_cut:
                rankings[query] = _in_rank_order(kept)[:depth]
            else:
                still_open.append(query)
        most = len(index) if asked >= index.most_results else index.most_results  # beyond it, the engine says why not
        open_queries, asked = np.array(still_open, dtype=np.int64), min(2 * asked, most)
    if cut:
        log.warning(
            "%d queries have more equal scores at their end than the engine returns: which are kept is open", cut
        )
    return rankings


def _in_rank_order(found: Ranking) -> Ranking:
    scores = [score for _, score in found]
    if all(map(gt, scores, scores[1:])):  # most engines sort, and few scores are equal
        return found
    return sorted(found, key=lambda result: (-result[1], result[0]))


def _filled(queries: Queries) -> np.ndarray:
    if isinstance(queries, np.ndarray | list):
        return np.arange(len(queries))
    return np.flatnonzero(np.diff(queries.starts_N1 if isinstance(queries, TokenVectors) else queries.indptr))
