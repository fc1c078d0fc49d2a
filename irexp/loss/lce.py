"""Localized contrastive estimation, LCE (Gao, Dai and Callan 2021, arXiv:2101.08751), equation 3.

    L = mean over queries of  -log( exp(s+) / sum over documents d of the query's own list of exp(s_d) )

The list is the positive and negatives drawn from a first stage's top results, as a re-ranker will see them.
"""

from __future__ import annotations

from irexp.loss.info_nce import InfoNCE


class LCE(InfoNCE):
    """InfoNCE over the query's own documents."""

    def __init__(self, *, temperature: float = 1.0) -> None:
        """A loss without weights.

        Args:
            temperature: divides the scores; the paper has none.
        """
        super().__init__(temperature=temperature, in_batch=False)
