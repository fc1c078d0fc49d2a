"""Text analysis for BM25: from a text to its terms.

Without an analyzer a token is what a regular expression finds in lower-cased text, which suits English and much of
Europe. The analyzer `unicode` is for any script:

- Letters are compared in Unicode's compatibility form and case-folded (NFKC, UAX #15), without invisible characters.
  Digits become ASCII, and İ, I, ı and i are one letter, except for the Turkish stemmer, which tells them apart.
- A word is a run of letters, combining marks and digits, of any length.
- Scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese), and Korean, which appends
  particles, are cut into single characters and overlapping pairs. Source: Nie et al. 2000, doi:10.1145/355214.355235.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Literal

from irexp.types import UserError

#: The regular expression of a token that conf/index/bm25.yaml sets.
TOKEN_PATTERN = r"(?u)\b\w\w+\b"

#: Scripts whose words are not, or not only, separated by spaces; ー and 々 belong to none, though they are in words.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー々"


class Analysis:
    """From a text to its terms: normalisation, tokenization, stop-word removal, stemming."""

    def __init__(
        self, stemmer: str | None, stop_words: str, token_pattern: str, analyzer: Literal["unicode"] | None
    ) -> None:
        """Check the settings; the stemmer and the stop words are created at their first use.

        Raises:
            UserError: if there is no such stemmer, or the pattern is not a regular expression or is not used.
        """
        self._language, self._stop_words_name = stemmer, stop_words
        self._is_for_english = analyzer is None and token_pattern == TOKEN_PATTERN
        self._tokens: Callable[[str], list[str]]
        if analyzer is None:
            self._tokens = functools.partial(_pattern_tokens, _compiled(token_pattern))
        elif token_pattern == TOKEN_PATTERN:
            self._tokens = functools.partial(unicode_tokens, is_turkish=stemmer == "turkish")
        else:
            raise UserError(
                f"index.token_pattern={token_pattern} is not used with index.analyzer={analyzer}; omit one of them"
            )
        _check_stemmer(stemmer)
        self._ready: tuple[Any, frozenset[str]] | None = None
        self._stem_of: dict[str, str] = {}

    def terms(self, text: str) -> Iterator[str]:
        """The terms of a text, in its order, repeated terms repeatedly."""
        stemmer, stop_words = self._tools()
        for token in self._tokens(text):
            if token in stop_words:
                continue
            if stemmer is None:
                yield token
                continue
            stem = self._stem_of.get(token)
            if stem is None:
                stem = self._stem_of[token] = stemmer.stemWord(token)
            yield stem

    def misread(self, text: str) -> str | None:
        """The first character of a text that shows that the default pattern cuts its words wrongly; None if it fits."""
        if not self._is_for_english or text.isascii():
            return None
        found = _expressions().misread.search(text)
        return found[0] if found else None

    def _tools(self) -> tuple[Any, frozenset[str]]:
        if self._ready is None:
            import Stemmer

            stemmer = Stemmer.Stemmer(self._language) if self._language else None
            stop_words = bm25s_library().stopwords.STOPWORDS_EN if self._stop_words_name == "en" else ()
            self._ready = stemmer, frozenset(stop_words)
        return self._ready


def unicode_tokens(text: str, *, is_turkish: bool = False) -> list[str]:
    """The tokens of a text in any script.

    >>> unicode_tokens("İSTANBUL Ｆｕｌｌ 故乡 x")
    ['istanbul', 'full', '故', '乡', '故乡', 'x']

    Args:
        text: as it was written.
        is_turkish: whether I is the upper case of ı, and İ that of i.
    """
    expressions = _expressions()
    tokens: list[str] = []
    for run in expressions.run.finditer(_normalised(text, is_turkish=is_turkish)):
        if run["word"] is not None:
            tokens.append(run["word"])
            continue
        characters = expressions.character.findall(run["unspaced"])
        tokens += characters
        tokens += map("".join, itertools.pairwise(characters))
    return tokens


def _normalised(text: str, *, is_turkish: bool) -> str:
    """A text whose equal words are equal strings."""
    if text.isascii() and not is_turkish:
        return text.lower()
    text = unicodedata.normalize("NFKC", text.replace("\u200b", " "))  # a zero-width space separates words
    if is_turkish:
        text = text.replace("I", "ı").replace("İ", "i")
    text = unicodedata.normalize("NFKC", text.casefold()).replace("i\u0307", "i")
    if not is_turkish:
        text = text.replace("ı", "i")
    expressions = _expressions()
    text = expressions.invisible.sub("", text)
    text = expressions.digit.sub(lambda found: str(unicodedata.digit(found[0])), text)
    return text


class _Expressions:
    """Regular expressions over the properties of characters, which Python's own do not know."""

    def __init__(self) -> None:
        import regex  # a tenth of a second, which an index of vectors need not wait for

        self.run = regex.compile(
            rf"(?V1)(?P<unspaced>(?:[{_UNSPACED}]\p{{M}}*)+)|(?P<word>[[\p{{L}}\p{{M}}\p{{N}}_]--[{_UNSPACED}]]+)"
        )
        self.character = regex.compile(r"\P{M}\p{M}*|\p{M}+")
        self.invisible = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
        self.digit = regex.compile(r"[^\P{Nd}0-9]", regex.V1)
        self.misread = regex.compile(rf"[\p{{M}}İ\uFF10-\uFFDC{_UNSPACED}]")


_expressions = functools.cache(_Expressions)


def _pattern_tokens(pattern: re.Pattern[str], text: str) -> list[str]:
    return pattern.findall(text.lower())


def _compiled(token_pattern: str) -> re.Pattern[str]:
    """The regular expression of a token.

    Raises:
        UserError: if it is malformed, has several groups, or matches the empty text.
    """
    where = f"index.token_pattern={token_pattern}"
    try:
        pattern = re.compile(token_pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"{where} is not a regular expression ({error}); correct it, or omit it for words") from None
    if pattern.groups > 1:
        raise UserError(f"{where} has {pattern.groups} groups, and a token is one; write (?:…) for a group")
    if pattern.fullmatch(""):
        raise UserError(f"{where} matches the empty text, which is not a token; write + where it has *")
    return pattern


def _check_stemmer(language: str | None) -> None:
    import Stemmer

    if language is not None and language not in Stemmer.algorithms():
        known = ", ".join(Stemmer.algorithms())
        raise UserError(f"index.stemmer={language}: there is no such stemmer; choose one of {known}, or null")


def bm25s_library() -> Any:
    """The library bm25s without its debug log and without JAX.

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
