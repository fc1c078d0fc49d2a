"""BM25 against its formula in loops."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import pytest

from irexp.dataset.local import LocalDocuments, LocalTopics
from irexp.evaluation.measures import evaluate, parse_measures
from irexp.index.bm25 import BM25Index
from irexp.types import Document, ScoredDoc, UserError

TEXTS = {
    "d1": "the red fox jumps over the red fence",
    "d2": "a blue fox sleeps",
    "d0": "a blue fox sleeps",
    "d3": "nothing to see",
    "d4": "red red red",
}
DOCUMENTS = [Document(doc_id, text) for doc_id, text in TEXTS.items()]
PLAIN = {"stemmer": None, "stop_words": "none"}


def naive(query: str, k1: float, b: float) -> list[tuple[str, float]]:
    """The formula of the module's docstring, one term after the other."""
    terms = {doc_id: re.findall(r"\b\w\w+\b", text) for doc_id, text in TEXTS.items()}
    average = sum(map(len, terms.values())) / len(terms)
    scored = []
    for doc_id, words in terms.items():
        score, counts = 0.0, Counter(words)
        for term in query.split():
            frequency, containing = counts[term], sum(term in other for other in terms.values())
            idf = math.log(1 + (len(terms) - containing + 0.5) / (containing + 0.5))
            score += frequency and idf * frequency / (frequency + k1 * (1 - b + b * len(words) / average))
        if score > 0:
            scored.append((doc_id, score))
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))


def build(folder: Path, documents: list[Document], **parameters: object) -> BM25Index:
    """Built, saved and loaded."""
    index = BM25Index(**({"progress": False} | PLAIN | parameters))  # type: ignore[arg-type]
    index.build(documents, count=len(documents))
    index.save(folder)
    loaded = BM25Index(**({"progress": False} | PLAIN | parameters))  # type: ignore[arg-type]
    loaded.load(folder)
    return loaded


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (0.0, 0.0), (2.0, 1.0)])
@pytest.mark.parametrize("query", ["red fox", "fox fox blue", "sleeps unknown", "unknown"])
def test_it_is_the_formula(tmp_path: Path, query: str, k1: float, b: float) -> None:
    """Scores, order, ties by id, repeated terms, terms of no document; a document without a hit is none."""
    ((*found,),) = [build(tmp_path, DOCUMENTS, k1=k1, b=b).search([query], 10)]
    expected = naive(query, k1, b)
    assert [doc_id for doc_id, _ in found[0]] == [doc_id for doc_id, _ in expected]
    assert [score for _, score in found[0]] == pytest.approx([score for _, score in expected], rel=1e-5)


def test_ties_at_the_cut_are_broken_by_id(tmp_path: Path) -> None:
    """d0 and d2 have the same text; d0 stands first and is kept."""
    assert [doc_id for doc_id, _ in build(tmp_path, DOCUMENTS).search(["sleeps"], 1)[0]] == ["d0"]


def test_stemming_and_stop_words(tmp_path: Path) -> None:
    """`jumping` finds `jumps`, and `the` finds nothing."""
    index = build(tmp_path, DOCUMENTS, stemmer="english", stop_words="en")
    found = index.search(["jumping", "the"], 5)
    assert [[doc_id for doc_id, _ in ranking] for ranking in found] == [["d1"], []]


def test_what_cannot_be_indexed(tmp_path: Path) -> None:
    """Parameters out of range, and texts without a term."""
    with pytest.raises(UserError, match=r"index\.b=2"):
        BM25Index(b=2)
    with pytest.raises(UserError, match="none of the 1 documents has a term"):
        build(tmp_path, [Document("d", "?!")])


VASWANI = Path(__file__).parents[3] / "shared" / "collections" / "vaswani"


@pytest.mark.skipif(not VASWANI.is_dir(), reason="the Vaswani collection is not beside this checkout")
def test_vaswani_with_anserinis_parameters(tmp_path: Path) -> None:
    """nDCG@10 of about 0.445 with k1 0.9 and b 0.4, as other implementations have."""
    documents = LocalDocuments(str(VASWANI / "corpus.jsonl"))
    topics = LocalTopics(str(VASWANI / "queries.jsonl"), qrels_path=str(VASWANI / "qrels" / "test.tsv"))
    index = BM25Index(k1=0.9, b=0.4, progress=False)
    index.build(documents, count=documents.count())
    queries = list(topics.queries())
    rankings = index.search([query.text for query in queries], 100)
    run = [ScoredDoc(q.query_id, d, s) for q, ranking in zip(queries, rankings, strict=True) for d, s in ranking]
    measured = evaluate(run, topics.qrels(), parse_measures(["nDCG@10"])).aggregated["nDCG@10"]
    assert measured == pytest.approx(0.445, abs=0.002)
