"""The interface of the cross-encoders: a query and a document are encoded together.

Shapes: P pairs, L tokens, B queries, N documents.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from irexp.index.parts import Parts
from irexp.index.vectors import Vectors
from irexp.model.batching import TokenBudget, token_budget_batches
from irexp.model.device import OTHER_BUDGET, budget_of
from irexp.model.model import Model
from irexp.model.text import as_texts, cut, pad
from irexp.types import Tokens, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

#: Activations that a checkpoint may apply to its reported scores, named as in torch.nn.
ScoreActivation = Literal["Identity", "Sigmoid", "Tanh", "ReLU"]


class PairIds(NamedTuple):
    """A tokenized pair, not padded; `type_ids` is None if the model has no token types."""

    ids: list[int]
    type_ids: list[int] | None = None


class CrossEncoder(Model):
    """A model that scores pairs.

    Attributes:
        is_listwise: whether a document's score depends on the other documents of its list.
        activation: applied to reported scores, not in training.
        without_int8: why its transformer cannot be computed in int8; None if it is called with token ids, mask and
            token types alone.
    """

    without_matryoshka_dims: ClassVar[str] = "a cross-encoder has no vectors"
    without_int8: ClassVar[str | None] = None

    is_listwise = False
    activation: ScoreActivation = "Identity"
    tokenizer: PreTrainedTokenizerBase
    _is_warned = False

    @abstractmethod
    def tokenize_pairs(self, queries: Sequence[str], documents: Sequence[str]) -> list[PairIds]:
        """Token ids of pairs, each side truncated to its length."""

    @abstractmethod
    def score_pairs(self, tokens: Tokens, sizes: Sequence[int]) -> Tensor:
        """score_P as used in training: without the activation that a checkpoint may name.

        Args:
            tokens: the pairs.
            sizes: the number of pairs per query, in order; only a listwise model uses it.
        """

    def activate(self, score_P: Tensor) -> Tensor:
        """The reported score: an increasing function of the score used in training."""
        return getattr(nn, self.activation)()(score_P)  # type: ignore[no-any-return]

    def pad(self, pairs: Sequence[PairIds]) -> Tokens:
        """A batch, padded on the right."""
        tokens = pad([pair.ids for pair in pairs], self.tokenizer.pad_token_id)
        if pairs[0].type_ids is None:
            return tokens
        return replace(tokens, type_ids_BL=pad([pair.type_ids or [] for pair in pairs], 0).input_ids_BL)

    def score(self, query: str | Sequence[str], documents: Sequence[str]) -> Tensor:
        """The scores of documents for a query: score_N, or score_BN for several queries."""
        queries = [query] if isinstance(query, str) else as_texts(query, "query")
        documents = as_texts(documents, "documents")
        lists = self.score_lists([(text, documents) for text in queries])
        score_BN = torch.stack(lists) if lists else torch.empty(0, len(documents))
        return score_BN[0] if isinstance(query, str) else score_BN

    @torch.inference_mode()
    def score_lists(
        self,
        lists: Sequence[tuple[str, Sequence[str]]],
        *,
        budget: TokenBudget | None = None,
        parts: Parts | None = None,
    ) -> list[Tensor]:
        """The scores of several queries, each with its own documents, outside of training.

        Args:
            lists: queries with their documents.
            budget: tokens per batch, padding included; a listwise model never splits a list, and warns if it is larger.
            parts: where finished scores are kept, so that the same call resumes after a kill; None to keep nothing.

        Raises:
            UserError: if a single text or list does not fit into the GPU's memory.
        """
        budget, parts = budget or TokenBudget.of(self, self.device), parts or Parts()
        was_training = self.training
        self.eval()
        lists = [(query, as_texts(documents, "documents")) for query, documents in lists]
        sizes = [len(documents) for _, documents in lists]
        queries = [query for query, documents in lists for _ in documents]
        pairs = self.tokenize_pairs(queries, [document for _, documents in lists for document in documents])
        score_P = torch.empty(len(pairs))

        def score(batch: list[int], batch_sizes: Sequence[int]) -> NDArray[np.float32]:
            tokens = self.pad([pairs[position] for position in batch]).to(self.device)
            scores: NDArray[np.float32] = self.activate(self.score_pairs(tokens, batch_sizes).float()).cpu().numpy()
            return scores

        if self.is_listwise:
            batches = self._scored_lists(self.batches(pairs, sizes, budget.tokens), score, parts)
        else:
            lengths = [len(pair.ids) for pair in pairs]
            batches = budget.resume_batches(lengths, lambda batch: score(batch, [1] * len(batch)), parts)
        for batch, scores in batches:
            score_P[batch] = torch.from_numpy(scores)
        self.train(was_training)
        return list(torch.split(score_P, sizes)) if sizes else []

    def _scored_lists(
        self,
        lists: Iterator[tuple[list[int], list[int]]],
        score: Callable[[list[int], Sequence[int]], NDArray[np.float32]],
        parts: Parts,
    ) -> Iterator[tuple[list[int], Vectors]]:
        """The pairs of each list and their scores; lists that are in `parts` are not scored again."""
        done: set[int] = set()
        for rows, scores in parts.saved():
            done.update(rows)
            yield rows, scores
        for batch, sizes in lists:
            if not done.issuperset(batch):
                with _explain_out_of_memory(len(batch)):
                    scores = score(batch, sizes)
                parts.add(batch, scores)
                yield batch, scores

    def batches(
        self, pairs: Sequence[PairIds], sizes: Sequence[int], budget: int
    ) -> Iterator[tuple[list[int], list[int]]]:
        """For each batch, the positions of its pairs and the number of pairs per query."""
        if not self.is_listwise:
            for batch in token_budget_batches([len(pair.ids) for pair in pairs], budget):
                yield batch, [1] * len(batch)
            return
        self._warn_about_long_lists(pairs, sizes, budget)
        start = 0
        for size in sizes:
            if size:
                yield list(range(start, start + size)), [size]
            start += size

    def _warn_about_long_lists(self, pairs: Sequence[PairIds], sizes: Sequence[int], budget: int) -> None:
        """Warn once if a list, whose documents must be in one batch, has more tokens than the budget.

        A processor's own budget says nothing about memory.
        """
        largest = max(sizes, default=0) * max((len(pair.ids) for pair in pairs), default=0)
        is_own = self.device.type == "cpu" and budget == budget_of(self.device, self.width)
        allowed = OTHER_BUDGET if is_own else budget
        if largest > allowed and not self._is_warned:
            self._is_warned = True
            log.warning(
                "%s scores a list in one batch: %d documents have up to %d tokens, more than the budget of %d; if "
                "memory runs out, lower re_rank.depth (in validation training.validation_depth)",
                self.name,
                max(sizes),
                largest,
                allowed,
            )


@contextmanager
def _explain_out_of_memory(documents: int) -> Iterator[None]:
    """Turn an out-of-memory error on a list, which cannot be split, into a message that says what to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the GPU's memory is too small for a list of {documents} documents in one batch; lower re_rank.depth or "
            f"dataset.document_length"
        ) from error


def cut_once(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int) -> list[str]:
    """Texts truncated to a length; each distinct text is tokenized once, since a query occurs in many pairs."""
    distinct = list(dict.fromkeys(texts))
    shorter = dict(zip(distinct, cut(tokenizer, distinct, length), strict=True))
    return [shorter[text] for text in texts]
