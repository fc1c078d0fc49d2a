"""Training files as other libraries write them: each with an example of its own lines."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.examples import FileExamples
from irexp.dataset.hard_negatives import HardNegativeExamples, read_scores
from irexp.dataset.in_memory import TextDocuments, TextTopics
from irexp.dataset.text_examples import ExampleDocuments, TextFileExamples, id_of
from irexp.types import Example, Query
from tests.text_files import write

TOPICS = TextTopics({"1": "one", "2": "two"}, {"1": ["10"]})

FLAG = {"query": "cats", "pos": ["a cat"], "neg": ["a dog", "a bird"]}
FLAG_SCORED = {**FLAG, "pos_scores": [0.9], "neg_scores": [0.2, 0.1], "prompt": "find: "}
TRIPLET = {"anchor": "cats", "positive": "a cat", "negative": "a dog"}
COLUMNS = {"query": "cats", "positive": "a cat", "negative_1": "a dog", "negative_2": "a bird", "label": [3, 1, 2]}
LABELLED = {"query": "cats", "docs": ["a dog", "a cat", "a bird"], "labels": [0, 1, 0]}
TEVATRON = {
    "query_id": "7",
    "query": "cats",
    "positive_passages": [{"docid": "1", "title": "Cats", "text": "a cat"}],
    "negative_passages": [{"docid": "2", "title": "", "text": "a dog"}],
}
TEVATRON_IDS = {
    "query_id": "1",
    "query_text": "cats",
    "query_image": None,
    "positive_document_ids": ["10", "11"],
    "negative_document_ids": ["12", "13"],
}


def lines(*objects: object) -> str:
    """JSON lines."""
    return "".join(json.dumps(each) + "\n" for each in objects)


@pytest.mark.parametrize(
    ("fields", "documents", "targets"),
    [
        (FLAG, ("a cat", "a dog", "a bird"), (1.0, 0.0, 0.0)),
        (FLAG_SCORED, ("a cat", "a dog", "a bird"), (0.9, 0.2, 0.1)),
        (TRIPLET, ("a cat", "a dog"), (1.0, 0.0)),
        (COLUMNS, ("a cat", "a dog", "a bird"), (3.0, 1.0, 2.0)),
        ({**COLUMNS, "label": [1, 2]}, ("a cat", "a dog", "a bird"), (2.0, 1.0, 0.0)),  # margins
        ({**TRIPLET, "score": 2.5}, ("a cat", "a dog"), (2.5, 0.0)),
        (LABELLED, ("a cat", "a dog", "a bird"), (1.0, 0.0, 0.0)),
        ({"query": "cats", "documents": ["a dog", "a cat"], "scores": [1, 4]}, ("a cat", "a dog"), (4.0, 1.0)),
        (
            {"query": "cats", "documents": ["a dog", "a bird", "a cat"], "labels": [0, 1, 2]},
            ("a cat", "a bird", "a dog"),
            (2.0, 1.0, 0.0),
        ),
        (["cats", ["a cat", 2.5], ["a dog", -1.0]], ("a cat", "a dog"), (2.5, -1.0)),
        (["cats", "a cat", "a dog"], ("a cat", "a dog"), (1.0, 0.0)),
    ],
)
def test_lines_with_texts_make_their_own_documents(
    tmp_path: Path, fields: object, documents: tuple[str, ...], targets: tuple[float, ...]
) -> None:
    """The texts of every layout are found by the ids that the example names, without a collection."""
    examples = TextFileExamples(write(tmp_path / "t.jsonl.gz", lines(fields)))
    example = examples[0]
    prompt = "find: " if fields is FLAG_SCORED else None
    assert example == Example(Query(id_of("cats"), "cats"), tuple(map(id_of, documents)), targets, prompt)
    found = examples.texts(TextDocuments({"other": "text"})).get_many(["other", *example.doc_ids])
    assert [found[doc_id].text for doc_id in example.doc_ids] == list(documents)
    assert found["other"].text == "text"
    assert examples.unknown_doc_ids(TextDocuments({"other": "text"})) == set()


def test_tevatrons_passages_are_their_title_and_text(tmp_path: Path) -> None:
    """As in a collection with titles; an empty title adds no space."""
    path = write(tmp_path / "t.jsonl", lines(TEVATRON))
    assert [document.text for document in ExampleDocuments(path)] == ["Cats a cat", "a dog"]
    examples = TextFileExamples(path)
    assert examples[0].query == Query(id_of("cats"), "cats")  # not its id, 7
    assert examples.relevant_doc_ids(id_of("cats")) == {id_of("Cats a cat")}


def test_tevatrons_passages_are_found_by_their_ids_in_a_collection(tmp_path: Path) -> None:
    """With the query's id and text; a passage without an id is an error."""
    examples = FileExamples(write(tmp_path / "t.jsonl", lines(TEVATRON)))
    assert examples[0] == Example(Query("7", "cats"), ("1", "2"), (1.0, 0.0))
    with pytest.raises(DataError, match=r"h\.jsonl:1: the text has half of a surrogate pair"):
        len(FileExamples(write(tmp_path / "h.jsonl", lines({**TEVATRON, "query": "smile \ud83d"}))))
    without = {**TEVATRON, "negative_passages": [{"text": "a dog"}]}
    with pytest.raises(DataError, match=r"w\.jsonl:1: an id must be a string"):
        len(FileExamples(write(tmp_path / "w.jsonl", lines(without))))


@pytest.mark.parametrize("kind", ["symmetric_sts", "symmetric_clustering"])
def test_documents_of_a_symmetric_type_have_the_prompt_of_the_query(tmp_path: Path, kind: str) -> None:
    """As FlagEmbedding does; with another type or none they have the model's own."""
    rows = ({**FLAG_SCORED, "type": kind}, {**FLAG_SCORED, "type": "symmetric_class"}, {**FLAG, "type": kind})
    examples = TextFileExamples(write(tmp_path / "t.jsonl", lines(*rows[:2])))
    assert [examples[n].document_prompt for n in range(2)] == ["find: ", None]
    assert {examples[n].query_prompt for n in range(2)} == {"find: "}
    assert TextFileExamples(write(tmp_path / "n.jsonl", lines(rows[2])))[0].document_prompt is None


def test_tab_separated_texts_are_read(tmp_path: Path) -> None:
    """As MS MARCO's triples of texts; the query of two lines is one query, whose positives are both known."""
    examples = TextFileExamples(write(tmp_path / "t.tsv", "cats\ta cat\ta dog\ncats\ttwo cats\ta dog\n"))
    assert len(examples) == 2
    assert examples.relevant_doc_ids(id_of("cats")) == {id_of("a cat"), id_of("two cats")}
    assert examples.relevant_doc_ids(id_of("dogs")) == frozenset()
    assert examples.doc_ids() == {id_of(text) for text in ("a cat", "two cats", "a dog")}
    assert [document.text for document in examples.documents] == ["a cat", "a dog", "two cats"]
    path = write(tmp_path / "h.tsv", "query\tpositive\tnegative_1\ncats\ta cat\ta dog\n")
    with pytest.raises(DataError, match=r"h\.tsv:1: this is a header, 'query.*negative_1', not an example; remove it"):
        len(TextFileExamples(path))


def test_several_positives_make_several_examples_with_the_same_negatives(tmp_path: Path) -> None:
    """Each positive is learned, and none is a negative of another."""
    examples = TextFileExamples(write(tmp_path / "t.jsonl", lines({**FLAG, "pos": ["a cat", "two cats"]}, TRIPLET)))
    assert [examples[n].doc_ids[0] for n in range(3)] == [id_of("a cat"), id_of("two cats"), id_of("a cat")]
    assert examples[0].doc_ids[1:] == examples[1].doc_ids[1:] == (id_of("a dog"), id_of("a bird"))
    assert len(examples) == 3


def test_another_process_gets_the_places_and_reads_the_lines_itself(tmp_path: Path) -> None:
    """A copy for a spawned process does not check the file again, and its texts are the same."""
    path = tmp_path / "t.jsonl"
    examples = TextFileExamples(write(path, lines(FLAG, TRIPLET)))
    assert len(examples) == 2
    copy = pickle.loads(pickle.dumps(examples))
    assert [copy[n] for n in range(2)] == [examples[n] for n in range(2)]
    assert copy.documents.get_many(examples[1].doc_ids) == examples.documents.get_many(examples[1].doc_ids)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query": "cats"}, "it has no documents, only query"),
        ({"pos": ["a"]}, "it has no query, only pos"),
        ({**FLAG, "pos": []}, "its pos are empty"),
        ({**FLAG, "pos_scores": [1.0]}, "pos_scores and neg_scores need a score"),
        ({**COLUMNS, "label": [1]}, "it has 1 scores and 3 documents"),
        ({**TRIPLET, "negative": ["a dog", "a bird"], "scores": [1, 2]}, "it has 2 scores and 3 documents"),
        ({"qid": 7, "pos": ["a cat"]}, "its query has an id and no text"),
        ({**LABELLED, "labels": [0, 0, 0]}, "none of its labels is 1"),
        ({**LABELLED, "labels": [0, "1", 0]}, "a score is not a number"),
        ({**TEVATRON, "positive_passages": [{"docid": "1"}]}, "a passage has no text"),
        ({**FLAG, "neg": {"bm25": ["a"]}}, "read the file with dataset=hard_negatives"),
        ({**FLAG, "prompt": 3}, "the prompt is not a text"),
        ({**FLAG, "query": "smile \ud83d"}, "half of a surrogate pair"),
        ({**TEVATRON, "query": "smile \ud83d"}, "half of a surrogate pair"),
        ({**FLAG, "neg": [7]}, "must be texts"),
        ({**FLAG, "neg": [" "]}, "must be texts, and not empty"),
        ([*FLAG], "the query and its documents|"),
    ],
)
def test_a_wrong_line_of_texts_is_named(tmp_path: Path, fields: object, message: str) -> None:
    """With its file and number, before anything is trained."""
    path = write(tmp_path / "t.jsonl", lines(FLAG, fields))
    if message.endswith("|"):  # a list of three texts is a triple
        assert len(TextFileExamples(path)) == 2
        return
    with pytest.raises(DataError, match=rf"t\.jsonl:2: .*{message}"):
        len(TextFileExamples(path))


def test_scores_in_some_lines_of_texts_are_an_error(tmp_path: Path) -> None:
    """A loss would take relevance for scores."""
    path = write(tmp_path / "t.jsonl", lines(FLAG, FLAG_SCORED))
    with pytest.raises(DataError, match=r"t\.jsonl:2: some examples have scores .* under the key scores, not labels"):
        len(TextFileExamples(path))


def test_objects_of_ids_are_read_like_lists(tmp_path: Path) -> None:
    """Tevatron's, with their queries' texts, and PyLate's with scores."""
    examples = FileExamples(write(tmp_path / "t.jsonl", lines(TEVATRON_IDS)))
    assert examples[0] == Example(Query("1", "cats"), ("10", "12", "13"), (1.0, 0.0, 0.0))
    assert examples[1].doc_ids == ("11", "12", "13")
    assert examples.relevant_doc_ids("1") == {"10", "11"}
    scored = {"query_id": 1, "document_ids": [12, 10], "scores": [0.25, 0.5]}  # the best one is the positive
    examples = FileExamples(write(tmp_path / "s.jsonl", lines(scored)), topics=TOPICS)
    assert examples[0] == Example(Query("1", "one"), ("10", "12"), (0.5, 0.25))
    with pytest.raises(DataError, match=r"s\.jsonl:1: it has no text of its query; set dataset.train.topics"):
        len(FileExamples(str(tmp_path / "s.jsonl")))


def test_empty_lists_of_scores_are_none(tmp_path: Path) -> None:
    """As some files of FlagEmbedding have."""
    examples = TextFileExamples(write(tmp_path / "t.jsonl", lines({**FLAG, "pos_scores": [], "neg_scores": []})))
    assert examples[0].targets == (1.0, 0.0, 0.0)


def test_a_query_id_with_two_texts_is_an_error(tmp_path: Path) -> None:
    """As in two files that are joined, whose queries are numbered from 1 in each."""
    joined = lines(TEVATRON_IDS, {**TEVATRON_IDS, "query_text": "cats "})
    assert len(FileExamples(write(tmp_path / "same.jsonl", joined))) == 4
    other = lines(TEVATRON_IDS, {**TEVATRON_IDS, "query_text": "dogs"})
    with pytest.raises(DataError, match="the training query '1' has two texts, 'cats' and 'dogs'; two files"):
        len(FileExamples(write(tmp_path / "other.jsonl", other)))


MINED = {"qid": 1, "pos": [11], "neg": {"bm25": [20, 10, 21, 11], "dense": [20, 22]}}


def mined(folder: Path, **changes: Any) -> HardNegativeExamples:
    """One query with the negatives of two systems; 10 is judged relevant."""
    path = write(folder / "mined.jsonl.gz", lines(MINED))
    return HardNegativeExamples(path, topics=TOPICS, **changes)


def test_mined_negatives_are_taken_from_the_systems_rank_by_rank(tmp_path: Path) -> None:
    """Each once, and a positive never; `systems` and `per_system` choose."""
    assert mined(tmp_path)[0].doc_ids == ("11", "20", "10", "22", "21")
    assert mined(tmp_path).relevant_doc_ids("1") == {"10", "11"}
    assert mined(tmp_path, systems=["dense"])[0].doc_ids == ("11", "20", "22")
    assert mined(tmp_path, per_system=1)[0].doc_ids == ("11", "20")


def test_systems_without_negatives_are_refused(tmp_path: Path) -> None:
    """A misspelt one left a training with in-batch negatives alone."""
    with pytest.raises(DataError, match=r"no line of .* has negatives of BM25; it has those of bm25, dense"):
        len(mined(tmp_path, systems=["BM25", "dense"]))
    wrong: list[dict[str, Any]] = [{"systems": []}, {"per_system": 0}, {"per_system": -1}]
    for changes in wrong:
        with pytest.raises(DataError, match=r"leave no negatives; null uses all"):
            mined(tmp_path, **changes)


@pytest.mark.parametrize("kind", ["pickle", "jsonl", "run"])
def test_a_cross_encoders_scores_become_the_targets_and_filter(tmp_path: Path, kind: str) -> None:
    """22 scores within the margin of the positive, and 21 has no score."""
    scores = {11: 9.0, 20: 1.0, 10: 2.0, 22: 7.5}
    path = tmp_path / {"pickle": "s.pkl", "jsonl": "s.jsonl", "run": "s.run"}[kind]
    if kind == "pickle":
        path.write_bytes(pickle.dumps({1: scores}))
    elif kind == "jsonl":
        path.write_text(lines([1, scores]))
    else:
        path.write_text("".join(f"1 Q0 {doc_id} 1 {score} x\n" for doc_id, score in scores.items()))
    examples = mined(tmp_path, scores_path=str(path))
    assert examples[0].doc_ids == ("11", "20", "10", "22")
    assert examples[0].targets == (9.0, 1.0, 2.0, 7.5)
    assert examples.relevant_doc_ids("1") == {"10", "11"}  # the file's positive, too
    examples = mined(tmp_path, scores_path=str(path), margin=3.0, targets_are_scores=False)
    assert examples[0] == Example(Query("1", "one"), ("11", "20", "10"), (1.0, 0.0, 0.0))


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    """A pickle may name any function; this one would write a file."""

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "touched",))

    (tmp_path / "s.pkl").write_bytes(pickle.dumps({1: Harmful()}))
    with pytest.raises(DataError, match=r"s\.pkl: not a pickle of .*plain numbers"):
        len(mined(tmp_path, scores_path=str(tmp_path / "s.pkl")))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not a query with mined negatives"),
        ('{"qid": 1, "pos": [2]}', "not a query with mined negatives .'neg'"),
        ('{"qid": 1, "pos": [2], "neg": [3]}', "not a query with mined negatives"),
        ('{"qid": 1, "pos": [2], "neg": {"bm25": 3}}', "negatives of a system are not a list"),
        ('{"qid": 1, "pos": "d12", "neg": {"bm25": [3]}}', "its positives are not a list"),
        ('{"qid": 7, "pos": [2], "neg": {"bm25": [3]}}', "the query '7' is not among"),
    ],
)
def test_a_wrong_line_of_mined_negatives_is_named(tmp_path: Path, text: str, message: str) -> None:
    """With its file and number, and what a line should be."""
    path = write(tmp_path / "m.jsonl", f"{lines(MINED)}{text}\n")
    with pytest.raises(DataError, match=rf"m\.jsonl:2: .*{message}"):
        len(HardNegativeExamples(path, topics=TOPICS))


@pytest.mark.parametrize("kind", ["pickle", "jsonl"])
def test_a_score_that_is_not_finite_is_named(tmp_path: Path, kind: str) -> None:
    """As a target it would leave a document out, or make the loss NaN."""
    scores = {"11": float("nan"), "20": 1.0}
    path = tmp_path / ("s.pkl" if kind == "pickle" else "s.jsonl")
    path.write_bytes(pickle.dumps({1: scores}) if kind == "pickle" else lines([1, scores]).encode())
    with pytest.raises(DataError, match="the score of 11 is not finite"):
        len(mined(tmp_path, scores_path=str(path)))


@pytest.mark.parametrize("kind", ["pickle", "jsonl"])
def test_scores_of_a_query_in_several_places_are_joined(tmp_path: Path, kind: str) -> None:
    """Ids with spaces around them are the same ids; two scores of a document are named."""

    def written(*scores: tuple[object, dict[object, float]]) -> str:
        path = tmp_path / ("s.pkl" if kind == "pickle" else "s.jsonl")
        path.write_bytes(pickle.dumps(dict(scores)) if kind == "pickle" else lines(*scores).encode())
        return str(path)

    assert read_scores(written((1, {11: 9.0}), ("1 ", {" 20 ": 1.0, "11": 9.0}))) == {"1": {"11": 9.0, "20": 1.0}}
    with pytest.raises(DataError, match=r"s\.\w+.*: the query '1' has two scores of the document '11'; keep one"):
        read_scores(written((1, {11: 9.0}), ("1", {"11": 2.0})))


def test_a_positive_without_a_score_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its query is lost."""
    rows = lines(MINED, {**MINED, "pos": [12]})
    scores = write(tmp_path / "s.jsonl", lines([1, {11: 9.0, 20: 1.0}]))
    examples = HardNegativeExamples(write(tmp_path / "m.jsonl", rows), topics=TOPICS, scores_path=scores)
    assert len(examples) == 1
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        f"{tmp_path / 'm.jsonl'}: 1 examples are left out, since their positive has no score"
    ]


def test_a_margin_without_scores_is_an_error() -> None:
    """It would filter nothing."""
    with pytest.raises(DataError, match=r"margin=3.0 compares scores; set dataset.train.scores_path"):
        HardNegativeExamples("mined.jsonl", topics=TOPICS, margin=3.0)
