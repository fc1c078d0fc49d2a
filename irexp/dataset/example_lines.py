"""Lines of training examples: JSON lists and objects, or tab-separated columns, as many libraries write them.

Ids or texts may stand for a query and its documents: a line's keys do not tell, the reader of the file does.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

#: A number with a decimal point or a signed exponent, which ids do not have.
_SCORE = re.compile(r"[+-]?([0-9]*\.[0-9]+(e[+-]?[0-9]+)?|[0-9]+e[+-][0-9]+)", re.IGNORECASE)

_QUERY_IDS = ("query_id", "qid")
_QUERIES = ("query", "query_text", "anchor", "question")

#: Keys of positives, each with that of its negatives: FlagEmbedding; Tevatron with texts, with ids;
#: sentence-transformers' columns.
_SIDES = {
    "pos": "neg",
    "positive_passages": "negative_passages",
    "positive_document_ids": "negative_document_ids",
    "positive": "negative",
    "positives": "negatives",
}

#: Keys of negatives, each of which may be numbered.
_NEGATIVES = (*_SIDES.values(), "hard_neg", "hard_negative", "hard_negatives")

#: What begins like one of these keys, and what may be ignored beside texts.
_SIDE = re.compile(r"(hard_?)?(neg|pos)(ative|itive)?s?(_|[0-9]|$)")
_IDS = re.compile(r".*_(doc_?|document_?|passage_?)?ids?")

#: Sets of keys that are kept: the objects of a file have one or a few.
_KEPT = 64

#: Keys of a list with one score or label per document: PyLate, sentence-transformers.
_LISTS = ("document_ids", "doc_ids", "documents", "docs", "passages")
_SCORES = ("scores", "score")
_TARGETS = (*_SCORES, "labels", "label")

#: Names of documents, beside these keys, as the header of a table has them.
_COLUMNS = ("document", "passage", "answer", "response", "text", "context")

#: What is wrong with a file in which some examples have scores; labels of 0 and 1 alone are none.
SOME_HAVE_SCORES = (
    "some examples have scores and some have none; give scores to all or to none (grades, of which some lines have "
    "only 0 and 1, belong under the key scores, not labels)"
)

#: What is wrong with a list in a file of grades.
NO_GRADE = "none of its documents has a grade above 0, so that none is the positive; remove the line"

#: Values of FlagEmbedding's `type` with which a line's documents get the prompt of its query.
_SYMMETRIC = ("symmetric_sts", "symmetric_clustering")

#: What a line may be, for messages.
OBJECTS = (
    "{query, pos, neg}, {query, positive, negative}, {query, positive_passages, negative_passages}, {query_id, "
    "positive_document_ids, negative_document_ids} or {query, documents, scores}"
)


def is_header(texts: Sequence[object]) -> bool:
    """Whether texts are the usual names of a query and of its documents, as in the first line of a table.

    >>> is_header(["Query", "positive", "negative"]), is_header(["query", "a document of queries"])
    (True, False)
    """
    names = [str(text).strip().lower().rstrip("_0123456789") for text in texts]
    first, *others = [name for name in names if name not in _TARGETS] or [""]
    sides = {*_SIDES, *_NEGATIVES, *_LISTS, *_COLUMNS}
    return first in _QUERIES and bool(others) and sides.issuperset(others)


class Passage(NamedTuple):
    """A document of which a line has both the id, None for none, and the text."""

    doc_id: object
    text: str


class Listed(NamedTuple):
    """One example of a line.

    Attributes:
        query: the query's id or text, as it stands there.
        documents: the ids or texts of its documents, or passages with both, the positive first; of an object's list
            with scores or grades that is the one with the highest.
        scores: a teacher's score of each document; None for none.
        text: the query's text, where an object tells which it is.
        is_id: whether `query` is an id for certain, since it stands under such a key.
        prompt: what is put in front of the query; None for the model's own.
        document_prompt: the same of its documents.
        are_ids: whether the documents are ids for certain, since they stand under such a key.
        is_ordered: whether the documents were put in the order of their scores, since the line says of none that it is
            the positive.
    """

    query: object
    documents: list[object]
    scores: list[float] | None = None
    text: str | None = None
    is_id: bool = False
    prompt: str | None = None
    document_prompt: str | None = None
    are_ids: bool = False
    is_ordered: bool = False

    @property
    def relevant(self) -> int | None:
        """How many documents have a grade above 0, the first ones; None if the scores cannot be grades."""
        if not self.is_ordered or not all(score >= 0 and score.is_integer() for score in self.scores or []):
            return None
        return sum(score > 0 for score in self.scores or [])

    @property
    def ids(self) -> list[object]:
        """The query and its documents, by ids where the line has both ids and texts."""
        return [self.query, *(each.doc_id if isinstance(each, Passage) else each for each in self.documents)]

    @property
    def texts(self) -> list[object]:
        """The query and its documents, by texts where the line has both; None for a query with an id alone."""
        query = self.text if self.text is not None or self.is_id else self.query
        return [query, *(each.text if isinstance(each, Passage) else each for each in self.documents)]


def json_examples(text: str) -> list[Listed]:
    """The examples of a line of JSON: one, or one per positive.

    Raises:
        ValueError: saying what is wrong with it, in a few words.
    """
    fields = json.loads(text)
    return object_examples(fields) if isinstance(fields, dict) else [_checked(_of_list(fields))]


def object_examples(fields: Mapping[str, Any]) -> list[Listed]:
    """The examples of an object: one, or one per positive.

    Raises:
        ValueError: as in `json_examples`.
    """
    return [_checked(one) for one in _of_object(fields)]


def scores_in(columns: Sequence[str]) -> list[str]:
    """Those of some lines' first columns that have the form of a score; empty unless most are numbers."""
    numbers = sum(map(_is_number, columns))
    return [column for column in columns if _SCORE.fullmatch(column)] if 2 * numbers > len(columns) else []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def tsv_example(text: str, *, has_scores: bool) -> Listed:
    """The example of tab-separated columns: `query positive negative …`, after one score per document or none.

    Raises:
        ValueError: saying what is wrong with it, in a few words.
    """
    columns: list[str] = text.rstrip("\r\n").split("\t")
    if not has_scores:
        return _checked(Listed(columns[0], [*columns[1:]]))
    scores, ids = columns[: len(columns) // 2], columns[len(columns) // 2 :]
    if len(scores) != len(ids) - 1:
        raise ValueError(f"it has {len(scores)} scores and {len(ids) - 1} documents")
    return _checked(Listed(ids[0], [*ids[1:]], [float(score) for score in scores]))


def _checked(found: Listed) -> Listed:
    if not found.documents:
        raise ValueError("it has no document")
    if found.scores is not None and len(found.scores) != len(found.documents):
        raise ValueError(f"it has {len(found.scores)} scores and {len(found.documents)} documents")
    if not all(map(math.isfinite, found.scores or [])):
        raise ValueError("a score is not finite")
    return found


def _of_list(fields: object) -> Listed:
    """`[query, positive, negative, …]`, where a document may be `[document, score]` or `[score, document]`.

    Text in a pair is the document. Of two numbers the first is the score if one of the line's pairs begins with a
    number that has a decimal point, else the document.
    """
    if not isinstance(fields, list):
        raise ValueError("it is not a list")
    pairs = fields[1:]
    if not any(isinstance(pair, list | dict) for pair in pairs):
        return Listed(fields[0] if fields else None, pairs)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError("some documents have scores and some have none")
    begins_with_score = any(isinstance(first, float) for first, _ in pairs)
    pairs = [
        (second, first)
        if not isinstance(first, str) and (begins_with_score or isinstance(second, str))
        else (first, second)
        for first, second in pairs
    ]
    return Listed(fields[0], [document for document, _ in pairs], _numbers([score for _, score in pairs]))


def _of_object(fields: Mapping[str, Any]) -> list[Listed]:
    """The examples of an object: one per positive, each with all negatives; or one list with its scores."""
    query_id = next((fields[key] for key in _QUERY_IDS if key in fields), None)
    text = next((fields[key] for key in _QUERIES if key in fields), None)
    if text is not None and not isinstance(text, str):
        raise ValueError("the query is not a text")
    prompt = fields.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        raise ValueError("the prompt is not a text")
    query, is_id = (text, False) if query_id is None else (query_id, True)
    document_prompt = prompt if fields.get("type") in _SYMMETRIC else None
    place = Listed(query, [], text=text, is_id=is_id, prompt=prompt, document_prompt=document_prompt)
    if place.query is None:
        raise ValueError(f"it has no query, only {', '.join(fields)[:60] or 'nothing'}")
    positives, negatives = _read_keys(tuple(fields))
    if positives is not None:
        return _sides(fields, positives, negatives, place)
    key = next((key for key in _LISTS if key in fields), None)
    target = next((key for key in _TARGETS if key in fields), None)
    if key is None or target is None:
        raise ValueError(f"it has no documents, only {', '.join(fields)[:60]}")
    place = place._replace(are_ids=bool(_IDS.fullmatch(key)))
    documents, scores = _documents(fields[key]), _numbers(_as_list(fields[target]))
    if len(documents) != len(scores):
        raise ValueError(f"it has {len(scores)} scores and {len(documents)} documents")
    if target in _SCORES or not set(scores) <= {0, 1}:
        order = sorted(range(len(scores)), key=lambda n: -scores[n])  # such lists say of none that it is the positive
        documents, scores = [documents[n] for n in order], [scores[n] for n in order]
        return [place._replace(documents=documents, scores=scores, is_ordered=True)]
    ours, theirs = ([d for d, label in zip(documents, scores, strict=True) if label == wanted] for wanted in (1, 0))
    if not ours:
        raise ValueError(f"none of its {target} is 1")
    return [place._replace(documents=[one, *theirs]) for one in ours]


def _sides(fields: Mapping[str, Any], positives: str, negatives: Sequence[str], place: Listed) -> list[Listed]:
    """One example per positive, each with all negatives."""
    if any(isinstance(fields[key], Mapping) for key in negatives):
        raise ValueError("its negatives are listed per system; read the file with dataset=hard_negatives")
    ours = _documents(fields[positives])
    theirs = [document for key in negatives for document in _documents(fields[key])]
    if not ours:
        raise ValueError(f"its {positives} are empty")
    place = place._replace(are_ids=any(_IDS.fullmatch(key) for key in (positives, *negatives)))
    scores = _scores_of_sides(fields, positives, len(ours), len(theirs))
    if scores is None:
        return [place._replace(documents=[one, *theirs]) for one in ours]
    of_theirs = scores[len(ours) :]
    return [
        place._replace(documents=[one, *theirs], scores=[score, *of_theirs])
        for one, score in zip(ours, scores, strict=False)
    ]


@lru_cache(_KEPT)
def _read_keys(keys: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """Of an object's keys that of its positives, None for none, and those of its negatives.

    The negatives have one key, or numbered ones in their order.

    Raises:
        ValueError: for a key that looks like further positives or negatives, which would be lost; ids may stand beside
            texts.
    """
    positives = next((key for key in _SIDES if key in keys), None)
    bases = {key: key.rstrip("_0123456789") for key in keys}
    base = _SIDES.get(positives or "")
    if base not in bases.values():
        base = next((base for base in bases.values() if base in _NEGATIVES), None)
    negatives = sorted((key for key in keys if bases[key] == base), key=lambda key: key != base)
    read = [positives, *negatives] if positives is not None else [key for key in _LISTS if key in keys][:1]
    for key in keys if read else ():
        is_extra_id = _IDS.fullmatch(key) and (len(read) > 1 or key.startswith("pos"))
        if _SIDE.match(key) and key not in (*read, "pos_scores", "neg_scores") and not is_extra_id:
            raise ValueError(f"its key {key} is not read beside {', '.join(map(str, read))[:40]}; rename or remove it")
    return positives, negatives


def _scores_of_sides(fields: Mapping[str, Any], positives: str, ours: int, theirs: int) -> list[float] | None:
    """The scores of so many positives and then of so many negatives; None if there are none."""
    target = next((key for key in _TARGETS if fields.get(key) is not None), None)
    if target is None:
        if fields.get("pos_scores") in (None, []) and fields.get("neg_scores") in (None, []):
            return None
        of_ours, of_theirs = (_numbers(_as_list(fields.get(key) or [])) for key in ("pos_scores", "neg_scores"))
        if (len(of_ours), len(of_theirs)) != (ours, theirs):
            raise ValueError("pos_scores and neg_scores need a score for each of its documents")
        return of_ours + of_theirs
    scores = _numbers(_as_list(fields[target]))
    are_labels = target not in _SCORES
    if (len(scores) == 1 or are_labels) and ours == 1 and len(scores) == theirs:  # margins of it to each negative
        return [max(scores), *(max(scores) - margin for margin in scores)]
    if len(scores) != ours + theirs:
        raise ValueError(f"it has {len(scores)} scores and {ours + theirs} documents")
    if are_labels and set(scores) <= {0, 1} and 0 in scores[:ours]:
        raise ValueError(f"it has no positive: the {target} of its {positives} is 0")
    return scores


def _documents(value: object) -> list[object]:
    """Ids or texts; a passage of Tevatron, `{docid, title, text}`, is its id, and its title and text."""
    found = []
    for one in _as_list(value):
        if isinstance(one, Mapping):
            parts = [one.get("title"), one.get("text")]
            if not isinstance(parts[1], str) or not isinstance(parts[0], str | None):
                raise ValueError("a passage has no text")
            one = Passage(one.get("docid"), " ".join(part.strip() for part in parts if part and part.strip()))
        found.append(one)
    return found


def _as_list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _numbers(values: Sequence[object]) -> list[float]:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise ValueError("a score is not a number")
    return [float(value) for value in values]  # type: ignore[arg-type]
