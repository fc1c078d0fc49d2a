"""BM25 through bm25s (Lù 2024, arXiv:2407.03618), with the parameters and the text processing in the open.

    score(q, d) = sum over terms t of q of  idf(t) * tf / (tf + k1 * (1 - b + b * |d| / avgdl))
    idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))                                  (method lucene)

bm25s computes the score of each (term, document) when the index is built, so that a query is a sum of columns. A term
that a query repeats counts as often. Source of the formula: Robertson and Zaragoza 2009; of the idf: Lucene.
"""

from __future__ import annotations

import json
import logging
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from irexp.index.ids import IdList
from irexp.index.ranking import Ranking
from irexp.types import Document, UserError

log = logging.getLogger(__name__)

_VOCABULARY = "vocabulary.json"
_IDS = "ids"


class BM25Index:
    """An inverted index of BM25 scores; unlike the other engines it reads texts."""

    def __init__(
        self,
        k1: float = 1.2,
        b: float = 0.75,
        *,
        method: Literal["lucene", "robertson", "atire"] = "lucene",
        stemmer: str | None = "english",
        stop_words: Literal["en", "none"] = "en",
        token_pattern: str = r"(?u)\b\w\w+\b",
        progress: bool = True,
    ) -> None:
        """An empty index.

        Args:
            k1: how fast a repeated term saturates, at least 0.
            b: how much a document's length counts, from 0 to 1.
            method: the variant of idf and tf, as bm25s names them.
            stemmer: a Snowball stemmer's language; None for no stemming.
            stop_words: the list of words that are left out.
            token_pattern: the regular expression of a token, of the lower-cased text.
            progress: whether to show a progress bar while building.

        Raises:
            UserError: if a parameter is out of its range.
        """
        if k1 < 0 or not 0 <= b <= 1:
            raise UserError(f"index.k1={k1} must be at least 0 and index.b={b} from 0 to 1")
        self._parameters: dict[str, Any] = {"k1": k1, "b": b, "method": method}
        self._analysis = _Analysis(stemmer, stop_words, token_pattern)
        self._progress = progress
        self._scores: Any = None
        self._term_of: dict[str, int] = {}
        self.doc_ids: Sequence[str] = []

    def build(self, documents: Iterable[Document], *, count: int | None) -> None:
        """Index documents; of their texts only the numbers of their terms are kept in memory.

        Raises:
            UserError: if there is no document, or none has a term.
        """
        import bm25s

        ids: list[str] = []
        terms_of: list[array[int]] = []
        for document in tqdm(documents, total=count, unit=" documents", desc="index", disable=not self._progress):
            ids.append(document.doc_id)
            terms_of.append(
                array(
                    "i", (self._term_of.setdefault(t, len(self._term_of)) for t in self._analysis.terms(document.text))
                )
            )
        if not self._term_of:
            raise UserError(f"none of the {len(ids)} documents has a term to index; look at dataset.documents")
        self.doc_ids = ids
        self._scores = bm25s.BM25(**self._parameters)
        self._scores.index((terms_of, dict(self._term_of)), create_empty_token=False, show_progress=False)

    def save(self, folder: Path) -> None:
        """Write the index, its vocabulary and the document ids."""
        self._scores.save(str(folder), show_progress=False)
        (folder / _VOCABULARY).write_text(json.dumps(list(self._term_of)), encoding="utf8")
        IdList.write(folder / _IDS, self.doc_ids)

    def load(self, folder: Path) -> None:
        """Take what `save` wrote, memory-mapped."""
        import bm25s

        if not (folder / _VOCABULARY).is_file():
            raise UserError(f"{folder / _VOCABULARY} is not there: this index was not made by bm25")
        self._scores = bm25s.BM25.load(str(folder), mmap=True, load_vocab=False, show_progress=False)
        terms: list[str] = json.loads((folder / _VOCABULARY).read_text(encoding="utf8"))
        self._term_of = {term: number for number, term in enumerate(terms)}
        self.doc_ids = IdList([folder / _IDS])

    def __len__(self) -> int:
        return len(self.doc_ids)

    def search(self, queries: Sequence[str], depth: int) -> list[Ranking]:
        """The best documents of each query: those that share a term with it, by score and then by id."""
        return [self._search(query, depth) for query in queries]

    def _search(self, query: str, depth: int) -> Ranking:
        terms = [self._term_of[term] for term in self._analysis.terms(query) if term in self._term_of]
        if not terms:
            return []
        score_N = self._scores.get_scores_from_ids(terms)
        best = np.flatnonzero(score_N > 0)
        if len(best) > depth:
            # every document with the score of the last place, so that ties are broken by id and not by position
            last = np.partition(score_N[best], len(best) - depth)[len(best) - depth]
            best = best[score_N[best] >= last]
        found = [(self.doc_ids[row], float(score_N[row])) for row in best.tolist()]
        return sorted(found, key=lambda result: (-result[1], result[0]))[:depth]


class _Analysis:
    """From a text to its terms: lower case, tokens, stop words out, stems."""

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
        """The pattern, stemmer and stop words, made at their first use so that a constructor does no work."""
        if self._ready is None:
            import Stemmer
            from bm25s.stopwords import STOPWORDS_EN

            try:
                stemmer = Stemmer.Stemmer(self._language) if self._language else None
            except KeyError:
                known = ", ".join(Stemmer.algorithms())
                raise UserError(
                    f"index.stemmer={self._language}: there is no such stemmer; there are {known}"
                ) from None
            stop_words = frozenset(STOPWORDS_EN) if self._stop_words_name == "en" else frozenset[str]()
            self._ready = re.compile(self._pattern), stemmer, stop_words
        return self._ready
