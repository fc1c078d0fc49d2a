"""An encoding written for OpenSearch, Vespa and Milvus is read back as the same vectors, in the terms of its schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig

from irexp.index.compare import compare
from irexp.index.shards import EncodedDocuments
from irexp.index.vectors import TokenVectors, Vectors, take
from irexp.stage import export as export_module
from irexp.stage.bulk import BulkFormat, document_entries, plain_vectors
from irexp.stage.checkpoint import open_encoder
from irexp.stage.export_files import write_parts
from irexp.stage.files import check_target
from irexp.types import UserError
from tests.chains import run

Compose = Callable[..., DictConfig]

IDS = ["d 0", 'a "quoted": id', "京都"]
FORMATS: tuple[BulkFormat, ...] = ("opensearch", "vespa", "milvus")


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """An untrained model on three documents."""
    folder = tmp_path / "toys"
    (folder / "qrels").mkdir(parents=True)
    rows = [
        json.dumps({"_id": name, "text": text}) for name, text in zip(IDS, ["a cup", "trees", "songs"], strict=True)
    ]
    (folder / "corpus.jsonl").write_text("\n".join(rows) + "\n", encoding="utf8")
    (folder / "queries.jsonl").write_text('{"_id": "q0", "text": "make cups"}\n{"_id": "q1", "text": "sing"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td 0\t1\nq1\td 0\t1\n")
    paths = [f"dataset.path={folder}", f"paths.artifacts={tmp_path / 'artifacts'}"]
    return ["training=none", "dataset=local", *paths, "machine.progress=false"]


def exported(compose: Compose, overrides: list[str], tmp_path: Path) -> tuple[dict[str, Path], Vectors]:
    """The folder of each format, and the documents' vectors."""
    stages = ["stage=[fit,encode,export]", "stage.export.format=vespa", f"stage.export.folder={tmp_path / 'unused'}"]
    outcomes = run(compose, [*overrides, *stages], ["fit", "encode"])
    encoding = Path(str(outcomes["encode"].path))
    for format in FORMATS:
        config = compose(
            *overrides, *stages, f"stage.export.format={format}", f"stage.export.folder={tmp_path / format}"
        )
        instantiate(config.stage.export, _convert_="object")(tmp_path, encoding, str(outcomes["fit"].path))
    (vectors,) = EncodedDocuments(encoding).batches()
    return {format: tmp_path / format for format in FORMATS}, vectors


def lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


def opensearch(folder: Path) -> tuple[dict[str, Any], Any]:
    """The vector of each document, and the type of its field."""
    actions = [line for path in sorted(folder.glob("documents-*.ndjson")) for line in lines(path)]
    named = {
        action["index"]["_id"]: source["vector"] for action, source in zip(actions[::2], actions[1::2], strict=True)
    }
    return named, json.loads((folder / "mapping.json").read_text())["mappings"]["properties"]["vector"]


def vespa(folder: Path) -> tuple[dict[str, Any], Any]:
    """The same."""
    puts = lines(folder / "documents.jsonl")
    assert [put["put"] for put in puts] == [f"id:irexp:irexp::{put['fields']['id']}" for put in puts]
    (tensor,) = re.findall(r"field vector type tensor<float>\((.*)\)", (folder / "irexp.sd").read_text())
    return {put["fields"]["id"]: put["fields"]["vector"] for put in puts}, tensor


def milvus(folder: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The vectors of each document, and the fields of a row."""
    rows = [row for path in sorted(folder.glob("documents-*.json")) for row in json.loads(path.read_text())["rows"]]
    assert [row["row"] for row in rows] == list(range(len(rows)))
    fields = json.loads((folder / "collection.json").read_text())["schema"]["fields"]
    assert all(set(row) == {field["fieldName"] for field in fields} for row in rows)
    named: dict[str, list[Any]] = {}
    for row in rows:
        named.setdefault(row["id"], []).append(row["vector"])
    return named, {field["fieldName"]: field for field in fields}


def same(values: Any, vector_H: NDArray[np.float32]) -> bool:
    """Whether numbers of JSON are exactly those of a vector in fp32."""
    return bool(np.array_equal(np.array(values, np.float32), vector_H))


def test_dense_vectors_are_read_back(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """As knn_vector, as an indexed tensor, and as a field of a row, each with the dimensions that its schema says."""
    folders, vectors = exported(compose, ["model=sbert", *settings], tmp_path)
    assert isinstance(vectors, np.ndarray) and len(vectors) == 3
    dim = vectors.shape[1]
    sources, field = opensearch(folders["opensearch"])
    tensors, tensor = vespa(folders["vespa"])
    rows, fields = milvus(folders["milvus"])
    for name, vector_H in zip(IDS, vectors, strict=True):
        assert same(sources[name], vector_H) and same(tensors[name]["values"], vector_H)
        assert len(rows[name]) == 1 and same(rows[name][0], vector_H)
    assert (field["type"], field["dimension"], field["method"]["space_type"]) == ("knn_vector", dim, "innerproduct")
    assert tensor == f"x[{dim}]" and fields["vector"]["elementTypeParams"] == {"dim": str(dim)}
    queries = {format: lines(folder / "queries.jsonl") for format, folder in folders.items()}
    assert all([query["id"] for query in each] == ["q0", "q1"] for each in queries.values())
    assert queries["vespa"][1]["vector"] == {"values": queries["milvus"][1]["vector"]}
    assert queries["milvus"] == queries["opensearch"] and len(queries["milvus"][0]["vector"]) == dim


def test_sparse_vectors_are_read_back(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """As rank_features, as a mapped tensor, and as a field of a row; a term is its number in the vocabulary."""
    folders, vectors = exported(compose, ["model=splade", *settings], tmp_path)
    assert isinstance(vectors, scipy.sparse.csr_array)
    sources, field = opensearch(folders["opensearch"])
    tensors, tensor = vespa(folders["vespa"])
    rows, fields = milvus(folders["milvus"])
    for number, name in enumerate(IDS):
        inside = slice(vectors.indptr[number], vectors.indptr[number + 1])
        weights = {
            str(term): float(f"{weight:.9g}")
            for term, weight in zip(vectors.indices[inside].tolist(), vectors.data[inside].tolist(), strict=True)
        }
        assert len(weights) > 3
        assert sources[name] == tensors[name]["cells"] == rows[name][0] == weights
        assert same(list(weights.values()), vectors.data[inside])
    assert (field, tensor, fields["vector"]["dataType"]) == ({"type": "rank_features"}, "term{}", "SparseFloatVector")
    assert (
        lines(folders["vespa"] / "queries.jsonl")[0]["vector"]["cells"].keys()
        == lines(folders["milvus"] / "queries.jsonl")[0]["vector"].keys()
    )


def test_token_vectors_are_read_back(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """As nested knn_vectors, as a mixed tensor, and as a row per token."""
    folders, vectors = exported(compose, ["model=colbert", *settings], tmp_path)
    assert isinstance(vectors, TokenVectors)
    dim = vectors.vectors_TH.shape[1]
    sources, field = opensearch(folders["opensearch"])
    tensors, tensor = vespa(folders["vespa"])
    rows, _ = milvus(folders["milvus"])
    for number, name in enumerate(IDS):
        text = take(vectors, slice(number, number + 1))
        assert isinstance(text, TokenVectors) and len(text.vectors_TH) > 1
        assert same([each["values"] for each in sources[name]], text.vectors_TH)
        assert same([tensors[name]["blocks"][str(token)] for token in range(len(text.vectors_TH))], text.vectors_TH)
        assert same(rows[name], text.vectors_TH)
    assert field["type"] == "nested" and field["properties"]["values"]["dimension"] == dim
    assert tensor == f"token{{}},x[{dim}]"


#: The rows of Milvus; what encloses them.
ROWS = {"head": '{"rows":[\n', "between": ",\n", "tail": "\n]}\n"}


def test_rows_are_divided_into_files(tmp_path: Path) -> None:
    """A file never has more bytes than allowed; each is one value of JSON, and none is overwritten later."""
    for name, count in (("many", 5), ("none", 0)):
        (tmp_path / name).mkdir()
        rows = (json.dumps({"row": row, "id": "é"}, ensure_ascii=False) for row in range(count))
        write_parts(tmp_path / name / "documents-000.json", rows, most=60, **ROWS)
    paths = sorted((tmp_path / "many").iterdir())
    assert [path.name for path in paths] == ["documents-000.json", "documents-001.json", "documents-002.json"]
    written = [json.loads(path.read_text(encoding="utf8"))["rows"] for path in paths]
    assert [len(rows) for rows in written] == [2, 2, 1] and max(path.stat().st_size for path in paths) == 60
    assert [row["row"] for rows in written for row in rows] == [0, 1, 2, 3, 4]
    assert [json.loads(path.read_text()) for path in (tmp_path / "none").iterdir()] == [{"rows": []}]

    def killed() -> Iterator[str]:
        yield from (json.dumps({"row": row}) for row in range(3))
        raise KeyboardInterrupt

    (tmp_path / "killed").mkdir()
    with pytest.raises(KeyboardInterrupt):
        write_parts(tmp_path / "killed" / "documents-000.json", killed(), most=30, **ROWS)
    assert not list((tmp_path / "killed").iterdir())
    (tmp_path / "many" / "documents-000.json").unlink()
    with pytest.raises(
        UserError, match=r"has documents-001\.json and documents-002\.json already; name another folder"
    ):
        check_target(tmp_path / "many", "milvus")


def test_a_request_to_opensearch_is_below_its_limit(
    compose: Compose, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole documents are written into files below 100 MB; one that is larger alone has its own file."""
    assert export_module._MOST["opensearch"] < 100 * 10**6
    whole, vectors = exported(compose, ["model=colbert", *settings], tmp_path)
    (one,) = whole["opensearch"].glob("documents-*")
    sizes = [
        len(entry.encode()) + 1
        for entry in document_entries("opensearch", zip(IDS, plain_vectors(vectors), strict=True))
    ]
    assert one.stat().st_size == sum(sizes)
    monkeypatch.setitem(export_module._MOST, "opensearch", sizes[0] + sizes[1])
    (tmp_path / "again").mkdir()
    divided, _ = exported(compose, ["model=colbert", *settings], tmp_path / "again")
    paths = sorted(divided["opensearch"].glob("documents-*"))
    assert [path.name for path in paths] == ["documents-000.ndjson", "documents-001.ndjson"]
    assert [path.stat().st_size for path in paths] == [sizes[0] + sizes[1], sizes[2]]
    assert b"".join(path.read_bytes() for path in paths) == one.read_bytes()
    (tmp_path / "large").mkdir()
    write_parts(tmp_path / "large" / "documents-000.ndjson", iter(["a" * 9, "b", "c", "d"]), most=4)
    assert [path.read_text() for path in sorted((tmp_path / "large").iterdir())] == ["a" * 9 + "\n", "b\nc\n", "d\n"]


def loaded(folder: Path) -> Any:
    """A client of Milvus Lite that holds what was written, in a collection with the written fields and index."""
    from pymilvus import DataType, MilvusClient

    written = json.loads((folder / "collection.json").read_text())
    client = MilvusClient(str(folder / "lite.db"))
    fields = client.create_schema(auto_id=False, enable_dynamic_field=False)
    types = {"Int64": "INT64", "VarChar": "VARCHAR", "FloatVector": "FLOAT_VECTOR"}
    types["SparseFloatVector"] = "SPARSE_FLOAT_VECTOR"
    for field in written["schema"]["fields"]:
        options = {key: int(value) for key, value in field.get("elementTypeParams", {}).items()}
        kind, is_primary = getattr(DataType, types[field["dataType"]]), field.get("isPrimary", False)
        fields.add_field(field["fieldName"], kind, is_primary=is_primary, **options)
    (described,) = written["indexParams"]
    indexes = client.prepare_index_params()
    indexes.add_index(described["fieldName"], index_type=described["indexType"], metric_type=described["metricType"])
    client.create_collection(written["collectionName"], schema=fields, index_params=indexes)
    for path in sorted(folder.glob("documents-*.json")):
        rows = json.loads(path.read_text(encoding="utf8"))["rows"]
        client.insert(written["collectionName"], [{**row, "vector": numbered(row["vector"])} for row in rows])
    return client


def numbered(vector: Any) -> Any:
    """The client takes the numbers of terms; the bulk import of a server takes them as JSON has them, as text."""
    return {int(term): weight for term, weight in vector.items()} if isinstance(vector, dict) else vector


@pytest.mark.parametrize("model", ["sbert", "splade", "colbert"])
def test_milvus_finds_the_exported_documents(compose: Compose, settings: list[str], tmp_path: Path, model: str) -> None:
    """With the written files alone: every document has its exact score, for token vectors the sum of the best rows'."""
    folders, documents = exported(compose, [f"model={model}", *settings], tmp_path)
    client = loaded(folders["milvus"])
    queries = lines(folders["milvus"] / "queries.jsonl")
    scores: dict[tuple[str, str], float] = {}
    for query in queries:
        name, parts = query["id"], query["vector"] if model == "colbert" else [numbered(query["vector"])]
        for hits in client.search("irexp", parts, anns_field="vector", limit=1000, output_fields=["id"]):
            best: dict[str, float] = {}
            for hit in hits:
                best[hit["entity"]["id"]] = max(hit["distance"], best.get(hit["entity"]["id"], -np.inf))
            for doc_id, score in best.items():
                scores[name, doc_id] = scores.get((name, doc_id), 0) + score
    client.close()
    exact_BN = compare(embedded(compose, [f"model={model}", *settings], tmp_path), documents)
    for query, exact_N in zip(queries, exact_BN.tolist(), strict=True):
        assert [scores.get((query["id"], doc_id), 0) for doc_id in IDS] == pytest.approx(exact_N, rel=1e-5)
    assert len(scores) > 3


def embedded(compose: Compose, overrides: list[str], tmp_path: Path) -> Vectors:
    """The vectors of the queries, as the model makes them."""
    checkpoint = run(compose, overrides, ["fit"])["fit"].path
    encoder = open_encoder(str(checkpoint), instantiate(compose(*overrides).model, _convert_="object"))
    with torch.inference_mode():
        return encoder.embed_queries(["make cups", "sing"])


def test_texts_without_a_term_or_token() -> None:
    """OpenSearch and Vespa have them, with an empty field; Milvus does not take empty vectors."""
    empty = scipy.sparse.csr_array(np.array([[0, 0], [0, 1]], np.float32))
    texts = list(zip("ab", plain_vectors(empty), strict=True))
    assert next(document_entries("opensearch", texts)) == '{"index":{"_id":"a"}}\n{"vector":{}}'
    assert [json.loads(line)["fields"]["vector"] for line in document_entries("vespa", texts)] == [
        {"cells": {}},
        {"cells": {"1": 1.0}},
    ]
    assert [json.loads(line) for line in document_entries("milvus", texts)] == [
        {"row": 0, "id": "b", "vector": {"1": 1.0}}
    ]
    tokens = TokenVectors(np.ones((1, 2), np.float32), np.array([0, 0, 1]))
    texts = list(zip("ab", plain_vectors(tokens), strict=True))
    assert next(document_entries("opensearch", texts)) == '{"index":{"_id":"a"}}\n{"vector":[]}'
    assert json.loads(next(document_entries("vespa", texts)))["fields"]["vector"] == {"blocks": {}}
    assert [json.loads(line)["id"] for line in document_entries("milvus", texts)] == ["b"]


@pytest.mark.parametrize("format", ["opensearch", "milvus"])
def test_negative_weights_are_refused(format: BulkFormat) -> None:
    """They would be refused while the files are loaded."""
    texts = list(zip("a", plain_vectors(scipy.sparse.csr_array(np.array([[1, -1]], np.float32))), strict=True))
    with pytest.raises(UserError, match=f"document 'a' has a term of negative weight, which {format} does not take"):
        list(document_entries(format, texts))
    assert len(list(document_entries("vespa", texts))) == 1


def test_an_id_that_opensearch_does_not_take_is_refused() -> None:
    """It takes 512 bytes, and would refuse the document while the files are loaded."""
    vector = next(plain_vectors(np.ones((1, 2), np.float32)))
    assert len(list(document_entries("opensearch", [("\u00e9" * 256, vector)]))) == 1
    with pytest.raises(UserError, match=r"has an id of 513 bytes, and OpenSearch takes at most 512; use stage\.export"):
        list(document_entries("opensearch", [("\u00e9" * 256 + "x", vector)]))
    assert len(list(document_entries("vespa", [("\u00e9" * 300, vector)]))) == 1


@pytest.mark.parametrize(
    ("model", "format", "message"),
    [
        ("sbert", "ciff", "format=ciff writes sparse vectors, but the model sbert makes dense ones; opensearch"),
        ("coil", "vespa", "format=vespa: the model coil makes vectors of tokens that are compared only with those of"),
    ],
)
def test_a_format_that_does_not_hold_the_vectors_is_refused_before_anything_is_made(
    compose: Compose, settings: list[str], tmp_path: Path, model: str, format: str, message: str
) -> None:
    """The encoding may take hours; the error names the formats that take them."""
    options = ["stage=[fit,encode,export]", f"stage.export.format={format}", f"stage.export.folder={tmp_path / 'out'}"]
    with pytest.raises(UserError, match=message):
        run(compose, [f"model={model}", *settings, *options], ["fit", "encode", "export"])
    assert not list((tmp_path / "artifacts").rglob("manifest.json"))
