"""BM25 against its naive formula, and its text analysis."""

from __future__ import annotations

import logging
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irexp.dataset.local import LocalDocuments, LocalTopics
from irexp.evaluation.measures import evaluate, parse_measures
from irexp.index.analysis import unicode_tokens
from irexp.index.bm25 import BM25Index
from irexp.index.ranking import Ranking, rank
from irexp.index.sharded import Sharded
from irexp.index.texts import Texts
from irexp.types import Document, ScoredDoc, UserError

ROOT = Path(__file__).parents[2]

TEXTS = {
    "d1": "the red fox jumps over the red fence",
    "d2": "a blue fox sleeps",
    "d0": "a blue fox sleeps",
    "d3": "nothing to see",
    "d4": "red red red",
}
DOCUMENTS = [Document(doc_id, text) for doc_id, text in TEXTS.items()]
PLAIN: dict[str, Any] = {"stemmer": None, "stop_words": "none"}


def naive(query: str, k1: float, b: float) -> list[tuple[str, float]]:
    """The formula of the module's docstring, in loops."""
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


def search(folder: Path, documents: list[Document], queries: list[str], depth: int, **parameters: Any) -> list[Ranking]:
    """The results of an index that was built by one object and loaded by another."""
    engines = [BM25Index(**(PLAIN | parameters)) for _ in range(2)]
    engines[0].build(Texts(documents), folder)
    engines[1].load(folder)
    assert len(engines[1]) == len(documents)
    return rank(engines[1], queries, depth, doc_ids=[document.doc_id for document in documents])


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (0.0, 0.0), (2.0, 1.0)])
@pytest.mark.parametrize("query", ["red fox", "fox fox blue", "sleeps unknown", "unknown"])
def test_it_is_the_formula(tmp_path: Path, query: str, k1: float, b: float) -> None:
    """Scores and order equal the formula, with ties, repeated terms, unknown terms, and documents without a match."""
    (found,) = search(tmp_path, DOCUMENTS, [query], 10, k1=k1, b=b)
    expected = naive(query, k1, b)
    assert [doc_id for doc_id, _ in found] == [doc_id for doc_id, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], rel=1e-5)


def test_ties_at_the_cut_are_broken_by_id(tmp_path: Path) -> None:
    """Of twenty documents with the same text the smallest ids are results, although they were indexed last."""
    twins = [Document(f"t{number:02}", "a red fox") for number in reversed(range(20))]
    best, *others = search(tmp_path, [*DOCUMENTS, *twins], ["red fox"], 4)[0]
    assert best[0] == "t00" and [doc_id for doc_id, _ in others] == ["t01", "t02", "t03"]
    assert {score for _, score in others} == {best[1]}


def test_results_have_the_shape_and_order_of_other_engines(tmp_path: Path) -> None:
    """K is at most the number of documents, the best come first, and a row of -1 means no result."""
    index = BM25Index(**PLAIN)
    assert index.takes == "text" and len(index) == 0
    added: list[int] = []
    index.build(Texts(DOCUMENTS), tmp_path, added.append)
    assert sum(added) == len(DOCUMENTS)
    index.load(tmp_path)
    score_BK, row_BK = index.search(["red fox", "unknown"], 100)
    assert score_BK.shape == row_BK.shape == (2, len(DOCUMENTS)) and score_BK.dtype == np.float32
    assert row_BK[0].tolist()[:2] == [4, 0] and set(row_BK[0].tolist()) == {4, 0, 1, 2, -1}
    assert (np.diff(score_BK[0, :4]) <= 0).all() and (score_BK[0, :4] > 0).all() and np.isneginf(score_BK[0, 4])
    assert (row_BK[1] == -1).all() and np.isneginf(score_BK[1]).all()


def test_excluded_documents_are_replaced_by_the_next_ones(tmp_path: Path) -> None:
    """A ranking keeps its depth when a document is excluded."""
    index = BM25Index(**PLAIN)
    index.build(Texts(DOCUMENTS), tmp_path)
    index.load(tmp_path)
    found = rank(index, ["blue fox"], 2, doc_ids=list(TEXTS), excluded={"d0"})
    assert [doc_id for doc_id, _ in found[0]] == ["d2", "d1"]


def test_building_replaces_an_earlier_index(tmp_path: Path) -> None:
    """Files of a larger collection in the same folder do not affect the new index or its ids."""
    search(tmp_path, [*DOCUMENTS, Document("d9", "a red fox")] * 2, ["fox"], 3)
    texts = Texts(iter(DOCUMENTS))
    BM25Index(**PLAIN).build(texts, tmp_path)
    index = BM25Index(**PLAIN)
    index.load(tmp_path)
    assert texts.ids == list(TEXTS) and len(texts) == len(index) == len(DOCUMENTS)


def test_a_folder_of_another_engine_and_shards_are_refused(tmp_path: Path) -> None:
    """Both are errors that name the engine, rather than failures of bm25s."""
    with pytest.raises(UserError, match="was not built by index=bm25"):
        BM25Index().load(tmp_path)
    with pytest.raises(UserError, match="does not support BM25"):
        Sharded(BM25Index()).build(Texts(DOCUMENTS), tmp_path)


def test_nothing_is_printed_or_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Progress bars and debug logs of bm25s are turned off."""
    with caplog.at_level(logging.DEBUG):
        search(tmp_path, DOCUMENTS, ["red fox", "unknown", ""], 3)
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_terms_are_stemmed_and_stop_words_removed(tmp_path: Path) -> None:
    """The query `jumping` finds `jumps`, and `the` finds nothing."""
    found = search(tmp_path, DOCUMENTS, ["jumping", "the"], 5, stemmer="english", stop_words="en")
    assert [[doc_id for doc_id, _ in ranking] for ranking in found] == [["d1"], []]


def test_parameters_out_of_range_and_texts_without_terms_are_refused(tmp_path: Path) -> None:
    """Both are errors with the setting to check, before a search that finds nothing."""
    with pytest.raises(UserError, match=r"index\.b=2"):
        BM25Index(b=2)
    with pytest.raises(UserError, match="none of the 1 documents has a term"):
        search(tmp_path, [Document("d", "?!")], ["?"], 1)


def test_bm25s_does_not_import_jax(tmp_path: Path) -> None:
    """An installed JAX would take the GPU's memory; it can still be imported afterwards."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("print('imported')\n")
    (tmp_path / "jax" / "lax.py").write_text("top_k = print\n")
    script = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]
from irexp.index.bm25 import BM25Index
list(BM25Index()._analysis.terms("list buckets"))
print("searched")
import jax.lax
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["searched", "imported"]


LANGUAGES = ROOT / "tests" / "data" / "languages"


def missed(folder: Path, **settings: Any) -> set[str]:
    """The queries of the collection of many languages whose document is not the first result."""
    topics = LocalTopics(str(LANGUAGES / "queries.jsonl"), qrels_path=str(LANGUAGES / "qrels" / "test.tsv"))
    index, texts = BM25Index(**settings), Texts(LocalDocuments(str(LANGUAGES / "corpus.jsonl")))
    index.build(texts, folder)
    index.load(folder)
    queries = list(topics.queries())
    assert len(texts) == 26 and len(queries) == 33
    rankings = rank(index, [query.text for query in queries], 1, doc_ids=texts.ids)
    first = {query.query_id: ranking[0][0] for query, ranking in zip(queries, rankings, strict=True) if ranking}
    return {qrel.query_id for qrel in topics.qrels() if first.get(qrel.query_id) != qrel.doc_id}


@pytest.mark.parametrize("stemmer", [None, "english", "turkish"])
def test_the_unicode_analyzer_finds_words_of_every_script(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stemmer: str | None
) -> None:
    """Within unspaced text, with combining marks, in other forms and cases; only Turkish tells I and İ apart."""
    found = missed(tmp_path, analyzer="unicode", stemmer=stemmer)
    assert found == ({"turkish 2"} if stemmer == "turkish" else set()) and not caplog.records


def test_the_default_says_what_it_cannot_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The default misses most such queries, and says so for documents and for queries, with the setting to change."""
    assert len(missed(tmp_path)) == 27
    documents, query = (record.getMessage() for record in caplog.records)
    assert documents.startswith("17 of 26 documents have characters, such as BENGALI VOWEL SIGN AA, of writing that")
    assert query.startswith("the query 'বাংলা' has") and all("index.analyzer=unicode" in m for m in (documents, query))


@pytest.mark.parametrize(
    ("text", "is_turkish", "tokens"),
    [
        ("Ilık IŞIK", True, ["ılık", "ışık"]),
        ("Ilık IŞIK", False, ["ilik", "işik"]),
        ("I\u0307zmir", True, ["izmir"]),
        ("ﬁve ½", False, ["five", "1", "2"]),
        ("snake_case don't", False, ["snake_case", "don", "t"]),
        ("東京2020", False, ["東", "京", "東京", "2020"]),
        ("か\u3099く", False, ["が", "く", "がく"]),
        ("", False, []),
    ],
)
def test_tokens_of_any_script(text: str, is_turkish: bool, tokens: list[str]) -> None:
    """By Unicode's rules, on examples that can be checked by eye."""
    assert unicode_tokens(text, is_turkish=is_turkish) == tokens


@pytest.mark.parametrize("method", ["lucene", "robertson", "atire"])
def test_a_term_that_every_document_has_finds_every_document(tmp_path: Path, method: str) -> None:
    """Also where the method's idf of such a term is 0: then the documents are equal, and the smallest ids are first."""
    documents = [Document(f"d{n}", f"fox number{n}") for n in range(5)]
    every, one = search(tmp_path, documents, ["fox", "fox number3"], 4, method=method)
    assert [doc_id for doc_id, _ in every] == ["d0", "d1", "d2", "d3"]
    assert one[0][0] == "d3" and len(one) == 4 and one[0][1] > one[1][1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"token_pattern": r"(\w+"}, r"index\.token_pattern=\(\\w\+ is not a regular expression"),
        ({"token_pattern": r"(\w+)-(\w+)"}, "2 groups"),
        ({"token_pattern": r"\w*"}, "matches the empty text"),
        ({"token_pattern": r"\w+", "analyzer": "unicode"}, "is not used with index.analyzer=unicode"),
        ({"stemmer": "klingon"}, "index.stemmer=klingon: there is no such stemmer; choose one of arabic,"),
    ],
)
def test_faulty_settings_of_the_analysis_are_refused_at_once(settings: dict[str, Any], words: str) -> None:
    """Before a document is read: what is wrong, with the setting."""
    with pytest.raises(UserError, match=words):
        BM25Index(**settings)


VASWANI = Path(__file__).parents[3] / "shared" / "collections" / "vaswani"


@pytest.mark.skipif(not VASWANI.is_dir(), reason="the Vaswani collection is not next to this checkout")
def test_vaswani_with_anserinis_parameters(tmp_path: Path) -> None:
    """With k1 = 0.9 and b = 0.4 the nDCG@10 is about 0.445, as with other implementations."""
    documents = LocalDocuments(str(VASWANI / "corpus.jsonl"))
    topics = LocalTopics(str(VASWANI / "queries.jsonl"), qrels_path=str(VASWANI / "qrels" / "test.tsv"))
    index, texts = BM25Index(k1=0.9, b=0.4), Texts(documents)
    index.build(texts, tmp_path)
    index.load(tmp_path)
    queries = list(topics.queries())
    rankings = rank(index, [query.text for query in queries], 100, doc_ids=texts.ids)
    run = [ScoredDoc(q.query_id, d, s) for q, ranking in zip(queries, rankings, strict=True) for d, s in ranking]
    measured = evaluate(run, topics.qrels(), parse_measures(["nDCG@10"])).aggregated["nDCG@10"]
    assert measured == pytest.approx(0.445, abs=0.002)
