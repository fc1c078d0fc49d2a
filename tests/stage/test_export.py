"""A sparse encoding written for other engines holds the vectors' weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hydra.utils import instantiate
from omegaconf import DictConfig

from irexp.index.ciff import _messages
from irexp.index.shards import EncodedDocuments
from irexp.types import UserError
from tests.chains import run

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
    from google.protobuf.internal.decoder import _DecodeVarint32

    folder, weights = exported(compose, settings, "ciff", tmp_path / "ciff")
    data, position, messages = (folder / "index.ciff").read_bytes(), 0, _messages()

    def get(name: str) -> Any:
        nonlocal position
        size, position = _DecodeVarint32(data, position)
        message = messages[name].FromString(data[position : position + size])
        position += size
        return message

    header = get("Header")
    assert (header.version, header.num_docs) == (1, 3)
    found: list[list[int]] = [[], [], []]
    terms = []
    for _ in range(header.num_postings_lists):
        postings = get("PostingsList")
        terms.append(postings.term)
        rows = np.cumsum([posting.docid for posting in postings.postings])
        assert postings.df == len(rows) and postings.cf == sum(posting.tf for posting in postings.postings)
        for row, posting in zip(rows, postings.postings, strict=True):
            found[row].append(posting.tf)
    assert terms == sorted(terms)
    for row in range(3):
        impacts = np.rint(weights[[row]].data * 100)
        assert sorted(found[row]) == sorted(impacts[impacts > 0].tolist())
        record = get("DocRecord")
        assert (record.docid, record.collection_docid, record.doclength) == (row, f"d {row}", sum(found[row]))
    assert position == len(data)


def test_dense_vectors_are_not_exported(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """Without terms there is nothing to write; the error says so."""
    with pytest.raises(UserError, match=r"writes sparse vectors, but .* holds dense ones"):
        exported(compose, ["model=sbert", *settings[1:]], "ciff", tmp_path / "dense")


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
        patch.setattr("irexp.stage.export._vector", killed)
        exported(compose, settings, "anserini", tmp_path / "out")
    assert not (tmp_path / "out" / "docs.jsonl").exists()
    exported(compose, settings, "anserini", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"docs.jsonl", "queries.tsv"}
