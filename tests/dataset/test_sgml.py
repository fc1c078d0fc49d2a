"""Documents and topics in SGML: tags, elements and text are told apart, and every broken tag is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.dataset.collection import DataError
from irexp.dataset.local import LocalDocuments, LocalTopics
from irexp.types import Document, Query
from tests.text_files import write


@pytest.mark.parametrize(
    "text",
    [
        "<DOC><DOCNO>a</DOCNO>one</DOC><DOC><DOCNO>b</DOCNO>two</DOC>",
        "<DOC><DOCNO>a</DOCNO>one</DOC> <doc><docno>b</docno>two</doc>\n",
        "<DOC><DOCNO>a</DOCNO>\none\n</DOC><DOC><DOCNO>b</DOCNO>\ntwo</DOC>\r\n",
        '<?xml version="1.0"?>\n<!-- a licence\nof two lines -->\n<root>\n<DOC id="1"><DOCNO>a</DOCNO>one</DOC>\n'
        "<DOC ><DOCNO>b</DOCNO>two</DOC >\n</root>\n",
        "\ufeff  <DOC><DOCNO>a</DOCNO>one<!-- größer --></DOC><br/><DOC>\n<DOCNO> b </DOCNO><P>two</P></DOC>",
    ],
)
def test_sgml_documents_are_read_whatever_their_line_breaks(tmp_path: Path, text: str) -> None:
    """Two documents on one line or on many are read as two, and are looked up by their byte offsets."""
    documents = LocalDocuments(write(tmp_path / "c.trec", text))
    assert list(documents) == [Document("a", "one"), Document("b", "two")]
    assert documents.get_many(["b", "a"]) == {"a": Document("a", "one"), "b": Document("b", "two")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if a < b and c > d, i<3 or x<y", "if a < b and c > d, i<3 or x<y"),
        ("mail <joe@example.org> &amp; <b>bold</b>", "mail <joe@example.org> & bold"),
        ("x &lt;b&gt; y <br/> z <F P=105>w</F> <a href='<q>'>v</a>", "x <b> y z w v"),
        ("1 <!-- <b> not this --> 2", "1 2"),
        ("a <- b <= c << d <> e", "a <- b <= c << d <> e"),
        ("<![CDATA[Hello world]]>", "Hello world"),
        ("x<![CDATA[AT&amp;T <b>]]> &amp; <b>y</b><![CDATA[ <!-- ]] ]]>", "xAT&amp;T <b> & y <!-- ]]"),
        ("1 <!-- <![CDATA[ --> 2 ]]> <!-- 3", "1 2 ]]> <!-- 3"),
    ],
)
def test_a_less_than_sign_that_begins_no_tag_is_text(tmp_path: Path, text: str, expected: str) -> None:
    """An unescaped `<` does not cut the text of documents, of their elements or of topics."""
    path = write(tmp_path / "c.trec", f"<DOC><DOCNO>a</DOCNO><TEXT>{text}</TEXT></DOC>")
    for fields in (None, ["TEXT"], ["text"]):
        assert list(LocalDocuments(path, text_fields=fields)) == [Document("a", expected)]
    topics = write(tmp_path / "q.trec", f"<top><num>Number: 1 <title>Topic: {text}</title></top>")
    assert list(LocalTopics(topics).queries()) == [Query("1", expected)]


def test_text_fields_take_every_element_with_the_name_and_all_within_it(tmp_path: Path) -> None:
    """A repeated element counts each time, with the elements nested in it."""
    text = "<DOC><DOCNO>a</DOCNO><TEXT><P>one</P> two</TEXT><H>no</H><TEXT>three</TEXT></DOC>"
    path = write(tmp_path / "c.trec", text)
    assert [d.text for d in LocalDocuments(path, text_fields=["text"])] == ["one two three"]
    assert [d.text for d in LocalDocuments(path, text_fields=["h", "p"])] == ["no one"]


def test_a_document_may_lack_a_chosen_element(tmp_path: Path) -> None:
    """As headlines in news; an element that no document has is misspelt."""
    text = "<DOC><DOCNO>a</DOCNO><TEXT>x</TEXT></DOC><DOC><DOCNO>b</DOCNO><H>h</H><TEXT>y</TEXT></DOC>"
    path = write(tmp_path / "c.trec", text)
    assert [d.text for d in LocalDocuments(path, text_fields=["H", "TEXT"])] == ["x", "h y"]
    with pytest.raises(DataError, match=r"c\.trec: no document has an element HL"):
        LocalDocuments(path, text_fields=["HL", "TEXT"]).count()


def test_comments_without_an_end_take_no_longer_than_text(tmp_path: Path) -> None:
    """Each was searched to the end of the document: 100,000 took minutes."""
    path = write(tmp_path / "c.trec", f"<DOC><DOCNO>a</DOCNO>{'<!-- ' * 100_000}</DOC>")
    assert [len(d.text) for d in LocalDocuments(path)] == [499_999]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<DOC><DOCNO>a</DOCNO>x<DOCNO>b</DOCNO>y</DOC>", r":1: 2 <DOCNO> in one document"),
        ("<DOC><DOCNO>a</DOCNO>\n<DOC><DOCNO>b</DOCNO></DOC>", r":2: an element begins before the one at .*:1 has"),
        ("<DOC><DOCNO>a</DOCNO></DOC>\n</DOC>", r":2: a closing tag without an opening tag before it"),
        ("<DOC><DOCNO>a</DOCNO></DOC>\nlost words\n<DOC><DOCNO>b</DOCNO></DOC>", r":3: text outside .* 'lost words'"),
        ("<DOC><DOCNO>a</DOCNO></DOC>\nDOC>\n", r"at its end: text outside .* 'DOC>'"),
    ],
)
def test_missing_or_broken_document_tags_are_errors(tmp_path: Path, text: str, message: str) -> None:
    """Otherwise a document would be lost, or two joined, without a message."""
    with pytest.raises(DataError, match=message):
        LocalDocuments(write(tmp_path / "c.trec", text)).count()


def test_topics_are_read_on_one_line_and_in_xml(tmp_path: Path) -> None:
    """Two topics are read as two, with or without closing tags, with the number in an element or an attribute."""
    expected = [Query("1", "one"), Query("2 b", "two")]
    for text in (
        "<top><num>1<title>one</top><top><num> Number: 2 b\n<title>two\n<desc>no</top>",
        '<topics task="x"><topic number="1"><query>one</query></topic> '
        "<topic type='y' number='2 b'><query>two</query></topic></topics>",
    ):
        assert list(LocalTopics(write(tmp_path / "q.xml", text)).queries()) == expected
