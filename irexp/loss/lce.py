"""Localized contrastive estimation, LCE (Gao, Dai and Callan 2021, arXiv:2101.08751), equation 3.

    L = mean over queries of  -log( exp(s+) / (exp(s+) + sum over negatives d of exp(s_d)) )

The negatives are the query's own, drawn from a first stage's top results, as a re-ranker will see them. Of lists with
grades or a teacher's scores, the best documents are the positives, and relevant ones below them are left out: see
`irexp.loss.info_nce`.
"""

from __future__ import annotations

from irexp.loss.info_nce import InfoNCE


class LCE(InfoNCE):
    """InfoNCE over the query's own documents."""

    in_batch = False

    def __init__(self, *, temperature: float = 1.0, min_target_diff: float | None = None) -> None:
        """A loss without weights.

        Args:
            temperature: divides the scores; the paper has none.
            min_target_diff: how far below the largest target a document's must be to count as a negative, whether it is
                known to be relevant or not; None: all with a lower target count, except those known to be relevant.
        """
        super().__init__(temperature=temperature, in_batch=False, min_target_diff=min_target_diff)
