"""BM25 by bm25s (Lù 2024, arXiv:2407.03618), with all parameters and the text analysis in the configuration.

    score(q, d) = sum over terms t of q of  idf(t) * tf / (tf + k1 * (1 - b + b * |d| / avgdl))
    idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))                                  (method lucene)

bm25s computes the score of each (term, document) when the index is built, so that a query is a sum of columns. A
repeated query term counts repeatedly. Source of the formula: Robertson and Zaragoza 2009; of the idf: Lucene.

Shapes: B queries, N documents, K results per query.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from irexp.index.index import Index, Rows, Scores, Source
from irexp.index.texts import Texts
from irexp.index.top import top
from irexp.index.vectors import Queries
from irexp.types import UserError

_VOCABULARY = "vocabulary.json"


class BM25Index(Index):
    """An inverted index of BM25 scores; unlike other engines it takes texts."""

    takes = "text"

    def __init__(
        self,
        k1: float = 1.2,
        b: float = 0.75,
        *,
        method: Literal["lucene", "robertson", "atire"] = "lucene",
        stemmer: str | None = "english",
        stop_words: Literal["en", "none"] = "en",
        token_pattern: str = r"(?u)\b\w\w+\b",
    ) -> None:
        """An empty index.

        Args:
            k1: the saturation of repeated terms, at least 0.
            b: the strength of length normalisation, from 0 to 1.
            method: the variant of idf and tf, as named by bm25s.
            stemmer: the language of a Snowball stemmer; None for no stemming.
            stop_words: the list of words that are removed.
            token_pattern: the regular expression of a token in lower-cased text.

        Raises:
            UserError: if k1 or b is out of range.
        """
        if k1 < 0 or not 0 <= b <= 1:
            raise UserError(f"index.k1={k1} must be at least 0 and index.b={b} from 0 to 1")
        self._parameters: dict[str, Any] = {"k1": k1, "b": b, "method": method}
        self._analysis = _Analysis(stemmer, stop_words, token_pattern)
        self._scores: Any = None
        self._term_of: dict[str, int] = {}

    def build(self, source: Source, folder: Path, advance: Callable[[int], object] = abs) -> None:
        """Index texts; only the term numbers of each are kept in memory.

        Raises:
            UserError: if no document has a term.
        """
        assert isinstance(source, Texts)
        term_of: dict[str, int] = {}
        terms_of: list[array[int]] = []
        for text in source:
            terms_of.append(array("i", (term_of.setdefault(t, len(term_of)) for t in self._analysis.terms(text))))
            advance(1)
        if not term_of:
            raise UserError(f"none of the {len(source)} documents has a term to index; check dataset.documents")
        scores = _bm25s().BM25(**self._parameters)
        scores.index((terms_of, dict(term_of)), create_empty_token=False, show_progress=False)
        scores.save(str(folder), show_progress=False)
        (folder / _VOCABULARY).write_text(json.dumps(list(term_of)), encoding="utf8")

    def load(self, folder: Path) -> None:
        """Memory-map the scores."""
        if not (folder / _VOCABULARY).is_file():
            raise UserError(f"{folder / _VOCABULARY} does not exist: this index was not built by index=bm25")
        self._scores = _bm25s().BM25.load(str(folder), mmap=True, load_vocab=False, show_progress=False)
        terms: list[str] = json.loads((folder / _VOCABULARY).read_text(encoding="utf8"))
        self._term_of = {term: number for number, term in enumerate(terms)}

    def __len__(self) -> int:
        return 0 if self._scores is None else int(self._scores.scores["num_docs"])

    def search(self, queries: Queries, depth: int) -> tuple[Scores, Rows]:
        """The best documents of each query among those that share a term with it."""
        assert isinstance(queries, list)
        depth = min(depth, len(self))
        score_BK = np.full((len(queries), depth), -np.inf, np.float32)
        row_BK = np.full((len(queries), depth), -1, np.int64)
        for number, query in enumerate(queries):
            terms = [self._term_of[term] for term in self._analysis.terms(query) if term in self._term_of]
            if not terms:
                continue
            score_N = self._scores.get_scores_from_ids(terms)
            found = np.flatnonzero(score_N > 0)
            found = found[top(score_N[found], depth)]
            score_BK[number, : len(found)], row_BK[number, : len(found)] = score_N[found], found
        return score_BK, row_BK


def _bm25s() -> Any:
    """The library without its debug log and without JAX.

    bm25s starts an installed JAX on import, though it is not used here: JAX would take three quarters of a GPU's
    memory, and start threads that make forked workers hang.
    """
    if "bm25s" not in sys.modules and "jax" not in sys.modules:
        sys.modules["jax"] = None  # type: ignore[assignment] # makes "import jax" fail, as if it were not installed
        try:
            import bm25s
        finally:
            del sys.modules["jax"]
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s


class _Analysis:
    """From a text to its terms: lower-casing, tokenization, stop-word removal, stemming."""

    def __init__(self, stemmer: str | None, stop_words: str, token_pattern: str) -> None:
        self._language, self._stop_words_name = stemmer, stop_words
        self._pattern = token_pattern
        self._ready: tuple[Any, Any, frozenset[str]] | None = None
        self._stem_of: dict[str, str] = {}

    def terms(self, text: str) -> Iterator[str]:
        tokens, stemmer, stop_words = self._tools()
        for token in tokens.findall(text.lower()):
            if token in stop_words:
                continue
            if stemmer is None:
                yield token
                continue
            stem = self._stem_of.get(token)
            if stem is None:
                stem = self._stem_of[token] = stemmer.stemWord(token)
            yield stem

    def _tools(self) -> tuple[Any, Any, frozenset[str]]:
        """The pattern, stemmer and stop words, created at their first use so that the constructor does no work."""
        if self._ready is None:
            import Stemmer

            stop_words_en = _bm25s().stopwords.STOPWORDS_EN
            try:
                stemmer = Stemmer.Stemmer(self._language) if self._language else None
            except KeyError:
                known = ", ".join(Stemmer.algorithms())
                raise UserError(
                    f"index.stemmer={self._language}: there is no such stemmer; choose one of {known}"
                ) from None
            stop_words = frozenset(stop_words_en) if self._stop_words_name == "en" else frozenset[str]()
            self._ready = re.compile(self._pattern), stemmer, stop_words
        return self._ready
