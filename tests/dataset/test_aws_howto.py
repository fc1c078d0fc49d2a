"""The embedded collection: its counts and content do not change, and its texts are extracted correctly."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import pytest

from irexp.dataset.aws_howto import AwsHowtoDocuments, AwsHowtoTopics, _kebab, _plain

PARTS: tuple[Literal["train", "dev", "test"], ...] = ("train", "dev", "test")


def digest(lines: Iterable[tuple[object, ...]]) -> str:
    """SHA-256 over tab-separated lines."""
    return hashlib.sha256("".join("\t".join(map(str, line)) + "\n" for line in lines).encode()).hexdigest()[:16]


def test_counts_and_digests_do_not_change() -> None:
    """A changed text, id or split would change every measured number; here it changes a digest."""
    assert AwsHowtoDocuments().count() == len(list(AwsHowtoDocuments())) == 5389
    assert {part: len(list(AwsHowtoTopics(part).queries())) for part in PARTS} == {
        "train": 4902,
        "dev": 628,
        "test": 591,
    }
    assert {part: len(list(AwsHowtoTopics(part).qrels())) for part in PARTS} == {"train": 5007, "dev": 666, "test": 627}
    assert digest(AwsHowtoDocuments()) == "61a8c59c4804b446"
    assert {part: digest(AwsHowtoTopics(part).queries()) for part in PARTS} == {
        "train": "cb60d322069fa4e4",
        "dev": "89edacfb3d1c67d8",
        "test": "6b03dc0d9da3b58d",
    }
    assert {part: digest(AwsHowtoTopics(part).qrels()) for part in PARTS} == {
        "train": "30151c1047a116be",
        "dev": "64e8083bee5f1d15",
        "test": "627874513d704221",
    }


def test_no_test_operation_is_seen_in_training() -> None:
    """An operation of the test split is not relevant to any training query."""
    trained = {qrel.doc_id for qrel in AwsHowtoTopics("train").qrels()}
    split = {
        qrel.doc_id
        for qrel in AwsHowtoTopics("test").qrels()
        if int(hashlib.sha1(qrel.doc_id.encode()).hexdigest(), 16) % 10 == 0
    }
    assert len(split) > 500
    assert not split & trained


def test_every_judgement_has_its_query_and_document() -> None:
    """Each query id and document id of a judgement exists in the collection."""
    known = {document.doc_id for document in AwsHowtoDocuments()}
    for part in PARTS:
        queries = {query.query_id for query in AwsHowtoTopics(part).queries()}
        assert {qrel.query_id for qrel in AwsHowtoTopics(part).qrels()} == queries
        assert {qrel.doc_id for qrel in AwsHowtoTopics(part).qrels()} <= known


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CreateBucket", "create-bucket"),
        ("ListWebACLs", "list-web-acls"),
        ("DescribeDBInstances", "describe-db-instances"),
        ("GetEC2InstanceRecommendations", "get-ec2-instance-recommendations"),
    ],
)
def test_operation_names_are_converted_to_those_of_the_command_line(name: str, words: str) -> None:
    """An operation that is spelt differently than its file of examples would lose its examples."""
    assert _kebab(name) == words


def test_documentation_loses_its_markup_and_is_cut_to_120_words() -> None:
    """Tags are removed, entities become characters, and words beyond 120 are cut."""
    assert _plain("<p>Creates a <b>bucket</b> &amp; more.</p>") == "Creates a bucket & more."
    assert len(_plain("word " * 200).split()) == 120


def test_documents_are_looked_up_by_id() -> None:
    """A known id gives its document; an unknown one is missing from the result."""
    found = AwsHowtoDocuments().get_many(["s3api.create-bucket", "nothing"])
    assert list(found) == ["s3api.create-bucket"]
    assert found["s3api.create-bucket"].text.startswith("Amazon Simple Storage Service: create bucket ")
