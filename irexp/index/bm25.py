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
import math
import unicodedata
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irexp.index.analysis import TOKEN_PATTERN, Analysis, bm25s_library
from irexp.index.index import Index, Rows, Scores, Source
from irexp.index.texts import Texts
from irexp.index.top import top
from irexp.index.vectors import Queries
from irexp.types import UserError

log = logging.getLogger(__name__)

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
        token_pattern: str = TOKEN_PATTERN,
        analyzer: Literal["unicode"] | None = None,
    ) -> None:
        """An empty index.

        Args:
            k1: the saturation of repeated terms, at least 0.
            b: the strength of length normalisation, from 0 to 1.
            method: the variant of idf and tf, as named by bm25s.
            stemmer: the language of a Snowball stemmer; None for no stemming.
            stop_words: the list of words that are removed.
            token_pattern: the regular expression of a token in lower-cased text; the default drops words of one
                character, and cuts scripts without spaces or with combining marks wrongly.
            analyzer: "unicode" for words of any script, see `irexp.index.analysis`; None for `token_pattern`.

        Raises:
            UserError: if k1 or b is out of range, or a setting of the analysis is wrong or not used.
        """
        if not 0 <= k1 < math.inf or not 0 <= b <= 1:  # so written, they refuse NaN, too
            raise UserError(f"index.k1={k1} must be at least 0 and index.b={b} from 0 to 1")
        self._parameters: dict[str, Any] = {"k1": k1, "b": b, "method": method}
        self._analysis = Analysis(stemmer, stop_words, token_pattern, analyzer)
        self._scores: Any = None
        self._term_of: dict[str, int] = {}
        self._has_warned = False

    def build(self, source: Source, folder: Path, advance: Callable[[int], object] = abs) -> None:
        """Index texts; only the term numbers of each are kept in memory.

        Raises:
            UserError: if no document has a term.
        """
        assert isinstance(source, Texts)
        term_of: dict[str, int] = {}
        terms_of: list[array[int]] = []
        misread, sample = 0, ""
        for text in source:
            if (character := self._analysis.misread(text)) is not None:
                misread, sample = misread + 1, sample or character
            terms_of.append(array("i", (term_of.setdefault(t, len(term_of)) for t in self._analysis.terms(text))))
            advance(1)
        if misread:
            log.warning("%d of %d documents have %s", misread, len(source), _misread(sample))
        if not term_of:
            raise UserError(f"none of the {len(source)} documents has a term to index; check dataset.documents")
        scores = bm25s_library().BM25(**self._parameters)
        scores.index((terms_of, dict(term_of)), create_empty_token=False, show_progress=False)
        scores.save(str(folder), show_progress=False)
        (folder / _VOCABULARY).write_text(json.dumps(list(term_of)), encoding="utf8")

    def load(self, folder: Path) -> None:
        """Memory-map the scores."""
        if not (folder / _VOCABULARY).is_file():
            raise UserError(f"{folder / _VOCABULARY} does not exist: this index was not built by index=bm25")
        self._scores = bm25s_library().BM25.load(str(folder), mmap=True, load_vocab=False, show_progress=False)
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
            self._warn_once(query)
            terms = [self._term_of[term] for term in self._analysis.terms(query) if term in self._term_of]
            if not terms:
                continue
            score_N = self._scores.get_scores_from_ids(terms)
            found = self._documents_with(terms)
            found = found[top(score_N[found], depth)]
            score_BK[number, : len(found)], row_BK[number, : len(found)] = score_N[found], found
        return score_BK, row_BK

    def _documents_with(self, terms: list[int]) -> NDArray[np.int64]:
        """The rows that have one of some terms, whose idf may be 0: with two methods it is for very common terms."""
        starts, rows = self._scores.scores["indptr"], self._scores.scores["indices"]
        is_found_N = np.zeros(len(self), np.bool_)
        for term in set(terms):
            is_found_N[rows[starts[term] : starts[term + 1]]] = True
        return np.flatnonzero(is_found_N)

    def _warn_once(self, query: str) -> None:
        """Say at the first query that the analysis does not suit."""
        if not self._has_warned and (character := self._analysis.misread(query)) is not None:
            log.warning("the query %r has %s", query[:80], _misread(character))
            self._has_warned = True


def _misread(character: str) -> str:
    name = unicodedata.name(character, f"U+{ord(character):04X}")
    return (
        f"characters, such as {name}, of writing that index.token_pattern cuts wrongly, so words are not found; set "
        f"index.analyzer=unicode, which knows every script"
    )
