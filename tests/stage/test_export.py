"""A sparse encoding written for other engines holds the vectors' weights."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hydra.utils import instantiate
from omegaconf import DictConfig

from irexp.index import seismic
from irexp.index.ciff import _messages
from irexp.index.compare import compare
from irexp.index.shards import EncodedDocuments
from irexp.pipeline.component import component
from irexp.stage.export_files import complete, make_folder
from irexp.stage.export_terms import check_impacts, term_names, write_terms
from irexp.stage.files import TermFormat, check_target
from irexp.types import Query, UserError
from tests.chains import run
from tests.engines import encode

Compose = Callable[..., DictConfig]


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """An untrained sparse model on three documents."""
    folder = tmp_path / "toys"
    (folder / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": f"d {number}", "text": text}) for number, text in enumerate(["a cup", "trees", "songs"])]
    (folder / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "queries.jsonl").write_text('{"_id": "q0", "text": "make cups"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td 0\t1\n")
    paths = [f"dataset.path={folder}", f"paths.artifacts={tmp_path / 'artifacts'}"]
    return ["model=splade", "training=none", "dataset=local", *paths, "machine.progress=false"]


def exported(compose: Compose, settings: list[str], format: str, folder: Path) -> tuple[Path, Any]:
    """The files of a format, and the documents' weights."""
    options = [f"stage.export.format={format}", f"stage.export.folder={folder}"]
    config = compose(*settings, "stage=[fit,encode,export]", *options)
    outcomes = run(compose, [*settings, "stage=[fit,encode,export]", *options], ["fit", "encode"])
    call = instantiate(config.stage.export, _convert_="object")
    call(folder, Path(str(outcomes["encode"].path)), str(outcomes["fit"].path))
    (weights,) = EncodedDocuments(Path(str(outcomes["encode"].path))).batches()
    assert isinstance(weights, scipy.sparse.csr_array)
    return folder, weights


def test_lines_for_anserini_and_seismic_hold_the_weights(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """Anserini gets rounded impacts and queries with repeated terms, Seismic the weights."""
    folder, weights = exported(compose, settings, "anserini", tmp_path / "anserini")
    lines = [json.loads(line) for line in (folder / "docs.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["d 0", "d 1", "d 2"]
    for row, line in enumerate(lines):
        impacts = np.rint(weights[[row]].data * 100)
        assert sorted(line["vector"].values()) == sorted(impacts[impacts > 0].tolist())
    query_id, terms = (folder / "queries.tsv").read_text().rstrip("\n").split("\t")
    assert query_id == "q0" and len(terms.split(" ")) > 3
    folder, _ = exported(compose, settings, "seismic", tmp_path / "seismic")
    lines = [json.loads(line) for line in (folder / "docs.jsonl").read_text().splitlines()]
    assert sorted(lines[1]["vector"].values()) == pytest.approx(sorted(weights[[1]].data.tolist()), abs=1e-5)
    assert json.loads((folder / "queries.jsonl").read_text())["content"] == "make cups"


def test_a_ciff_file_holds_the_impacts(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """Every message is read back; ciff-toolkit 0.2.2 read such a file, too (5,389 documents, by hand)."""
    folder, weights = exported(compose, settings, "ciff", tmp_path / "ciff")
    header, lists, records = read_ciff(folder / "index.ciff")
    assert (header.version, header.num_docs) == (1, 3)
    found: list[list[int]] = [[], [], []]
    terms = []
    for postings in lists:
        terms.append(postings.term)
        rows = np.cumsum([posting.docid for posting in postings.postings])
        assert postings.df == len(rows) and postings.cf == sum(posting.tf for posting in postings.postings)
        for row, posting in zip(rows, postings.postings, strict=True):
            found[row].append(posting.tf)
    assert terms == sorted(terms)
    for row in range(3):
        impacts = np.rint(weights[[row]].data * 100)
        assert sorted(found[row]) == sorted(impacts[impacts > 0].tolist())
        record = records[row]
        assert (record.docid, record.collection_docid, record.doclength) == (row, f"d {row}", sum(found[row]))


def read_ciff(path: Path) -> tuple[Any, list[Any], list[Any]]:
    """The header, the posting lists and the documents of a file, which has nothing else."""
    from google.protobuf.internal.decoder import _DecodeVarint32

    data, position, messages = path.read_bytes(), 0, _messages()

    def get(name: str) -> Any:
        nonlocal position
        size, position = _DecodeVarint32(data, position)
        message = messages[name].FromString(data[position : position + size])
        position += size
        return message

    header = get("Header")
    lists = [get("PostingsList") for _ in range(header.num_postings_lists)]
    records = [get("DocRecord") for _ in range(header.num_docs)]
    assert position == len(data)
    return header, lists, records


def test_seismic_finds_the_exported_documents(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """Its own package reads the file; all documents are scored, with weights of 16 bits."""
    package = seismic._package()
    folder, weights = exported(compose, settings, "seismic", tmp_path / "seismic")
    built = package.SeismicIndex.build(str(folder / "docs.jsonl"), n_postings=3, summary_energy=1.0, num_threads=1)
    (query,) = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    string = package.get_seismic_string()
    terms = np.array(list(query["vector"])).astype(string)
    values = np.array(list(query["vector"].values()), np.float32)
    found = built.search("q0", terms, values, k=3, query_cut=len(terms), heap_factor=0.0)
    documents = [json.loads(line) for line in (folder / "docs.jsonl").read_text().splitlines()]
    exact = {
        each["id"]: sum(weight * query["vector"].get(term, 0) for term, weight in each["vector"].items())
        for each in documents
    }
    assert {doc_id for _, _, doc_id in found} == {doc_id for doc_id, score in exact.items() if score} != set()
    for _, score, doc_id in found:
        assert score == pytest.approx(exact[doc_id], rel=2e-3)
    row = [each["id"] for each in documents].index(found[0][2])
    assert sum(documents[row]["vector"].values()) == pytest.approx(weights[[row]].sum(), rel=1e-4)


def test_dense_vectors_are_not_exported(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """Without terms there is nothing to write; the error says so."""
    with pytest.raises(UserError, match=r"writes sparse vectors, but .* holds dense ones"):
        exported(compose, ["model=sbert", *settings[1:]], "ciff", tmp_path / "dense")


@pytest.mark.parametrize("scale", ["0", "-100", "inf", "nan"])
def test_a_scale_that_makes_no_impacts_is_refused_before_anything_is_made(
    compose: Compose, settings: list[str], tmp_path: Path, scale: str
) -> None:
    """An index without a term would be written without an error."""
    options = ["stage.export.format=ciff", f"stage.export.folder={tmp_path / 'out'}", f"stage.export.scale={scale}"]
    with pytest.raises(UserError, match=rf"^stage\.export\.scale={scale} must be a number above 0, usually 100"):
        run(compose, [*settings, "stage=[fit,encode,export]", *options], ["fit", "encode", "export"])
    assert not list((tmp_path / "artifacts").rglob("manifest.json"))


@pytest.mark.parametrize("format", ["ciff", "anserini"])
@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (
            "1e12",
            r"scale=1e\+12 is too large: the impacts of document 'd \d' add up to .* use at most [\d.e+]+, usually",
        ),
        ("1e-9", r"scale=1e-09 makes an impact of 0 of every weight, since the largest is [\d.]+; use a larger one"),
    ],
)
def test_impacts_that_no_index_holds_are_refused_before_anything_is_written(
    compose: Compose, settings: list[str], tmp_path: Path, format: str, scale: str, message: str
) -> None:
    """CIFF holds 32-bit integers; and an index in which every weight is rounded to 0 finds nothing."""
    with pytest.raises(UserError, match=message):
        exported(compose, [*settings, f"stage.export.scale={scale}"], format, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    exported(compose, [*settings, f"stage.export.scale={scale}"], "seismic", tmp_path / "out")  # which has weights


def test_the_largest_scale_is_the_one_that_fits(tmp_path: Path) -> None:
    """The sum of a document's impacts may be the largest 32-bit integer; that of a query, too."""
    weights = scipy.sparse.csr_array(np.array([[0, 0], [1, 1], [0, 1]], np.float32))
    encoding, queries = encode(tmp_path / "encoding", weights), [Query("q 0", ""), Query("q 1", ""), Query("q 2", "")]
    check_impacts(encoding, queries, weights, 2**30 - 1)
    with pytest.raises(UserError, match=r"the impacts of document 'd1' add up to 2\.147e\+09"):
        check_impacts(encoding, queries, weights, 2**30)
    with pytest.raises(UserError, match="the impacts of query 'q 1' add up to"):
        check_impacts(encoding, queries, 3 * weights, 2**30 - 1)
    empty = scipy.sparse.csr_array(np.zeros((3, 2), np.float32))
    check_impacts(encode(tmp_path / "empty", empty), queries, empty, 1e-9)  # it has no weight to lose


class Tokens:
    """A tokenizer with whitespace in its vocabulary, an entry without a token, and two of the same token."""

    tokens = ("a", "  ", "b c", "", "\t", "d\u2028", None, "a", "[1]", "e")

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        """The token of each entry."""
        return [self.tokens[number] for number in ids]


def test_every_vocabulary_entry_has_a_name_without_whitespace() -> None:
    """The names differ, and an entry's own token is kept where it can be read back."""
    names = term_names(Tokens(), 10)
    assert names == ["a", "[[1]]", "[2]", "[3]", "[4]", "[5]", "[6]", "[7]", "[1]", "e"]
    assert term_names(Tokens(), 5) == ["a", "[1]", "[2]", "[3]", "[4]"]


@pytest.mark.parametrize("format", ["anserini", "ciff", "seismic"])
def test_queries_and_documents_have_the_same_terms(tmp_path: Path, format: TermFormat) -> None:
    """The inner products of what was written, read as other engines do, are those of the vectors."""
    weights = scipy.sparse.csr_array(np.diag(np.arange(1, 11, dtype=np.float32)) + np.eye(10, k=1, dtype=np.float32))
    files = check_target(tmp_path, format)
    queries = [Query(f"q {number}", "") for number in range(10)]
    terms, encoding = term_names(Tokens(), 10), encode(tmp_path / "encoding", weights)
    write_terms(format, files, encoding, queries, weights, terms=terms, scale=1, machine=component("machine"))
    written = files[1].read_text().split("\n")[:-1]
    if format == "seismic":
        bags = [json.loads(line)["vector"] for line in written]
    else:
        texts = [line.split("\t") for line in written]
        assert [query_id for query_id, _ in texts] == [f"q {number}" for number in range(10)]
        bags = [{term: text.split().count(term) for term in text.split()} for _, text in texts]
    found = (
        ciff_documents(files[0])
        if format == "ciff"
        else [json.loads(line)["vector"] for line in files[0].read_text().split("\n")[:-1]]
    )
    products = [[sum(bag[term] * vector.get(term, 0) for term in bag) for vector in found] for bag in bags]
    np.testing.assert_array_equal(products, compare(weights, weights))


def test_a_query_without_an_impact_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Anserini's reader of topics stops at an id without a text; such a query has no results anyway."""
    weights = scipy.sparse.csr_array(np.array([[1, 2], [0.2, 0], [0, 0]], np.float32))
    queries, files = [Query(f"q{number}", "") for number in range(3)], check_target(tmp_path, "anserini")
    encoding, terms = encode(tmp_path / "encoding", weights), ["a", "b"]
    write_terms("anserini", files, encoding, queries, weights, terms=terms, scale=1, machine=component("machine"))
    assert files[1].read_text() == "q0\ta b b\n"
    assert "2 queries have no impact above 0, such as q1, and are not written" in caplog.text


def ciff_documents(path: Path) -> list[dict[str, int]]:
    """The impacts of each document's terms."""
    _, postings, records = read_ciff(path)
    found: list[dict[str, int]] = [{} for _ in records]
    for each in postings:
        for row, posting in zip(np.cumsum([one.docid for one in each.postings]), each.postings, strict=True):
            found[row][each.term] = posting.tf
    return found


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """What was written of the file is removed; the error names the setting of the folder, not that of the artifacts."""
    message = r"docs\.jsonl could not be written \(No space left on device\); free space on its disk"
    with pytest.raises(UserError, match=message), complete(tmp_path / "docs.jsonl") as path:
        path.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"stage\.export\.folder=.*file is not a folder; name another one"):
        check_target(tmp_path / "file", "ciff")
    with pytest.raises(UserError, match=r"file/in could not be written \(Not a directory\)"):
        make_folder(tmp_path / "file" / "in")


def test_an_export_overwrites_nothing(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """Files that exist are refused before anything is encoded, and also by the stage itself, and stay as they are."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "docs.jsonl").write_text("mine")
    overrides = [*settings, "stage=[fit,encode,export]", f"stage.export.folder={folder}"]
    with pytest.raises(UserError, match=r"out has docs\.jsonl already; name another folder, or remove it"):
        run(compose, [*overrides, "stage.export.format=seismic"], ["fit", "encode", "export"])
    assert not list((tmp_path / "artifacts").rglob("manifest.json"))
    with pytest.raises(UserError, match=r"has docs\.jsonl already"):
        exported(compose, settings, "anserini", folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"docs.jsonl": "mine"}


def test_a_killed_export_leaves_no_file_that_seems_complete(
    compose: Compose, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the documents are written, the same command writes all files."""

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("irexp.stage.export_terms._vector", killed)
        exported(compose, settings, "anserini", tmp_path / "out")
    assert not (tmp_path / "out" / "docs.jsonl").exists()
    exported(compose, settings, "anserini", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"docs.jsonl", "queries.tsv"}
