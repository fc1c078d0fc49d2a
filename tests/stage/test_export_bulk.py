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
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig

from irexp.index.shards import EncodedDocuments
from irexp.index.vectors import TokenVectors, Vectors, take
from irexp.stage import export as export_module
from irexp.stage.bulk import BulkFormat, as_query, document_lines, plain_vectors, schema
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
    actions = lines(folder / "documents.ndjson")
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


def test_rows_are_divided_into_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the size of a file the next one begins; each is one value of JSON, and none is overwritten later."""
    monkeypatch.setattr(export_module, "_MOST", 30)
    for name, count in (("many", 5), ("none", 0)):
        (tmp_path / name).mkdir()
        lines = (json.dumps({"row": row}) for row in range(count))
        export_module._write_rows(tmp_path / name / "documents-000.json", lines)
    written = [json.loads(path.read_text())["rows"] for path in sorted((tmp_path / "many").iterdir())]
    assert [len(rows) for rows in written] == [2, 2, 1]
    assert [row["row"] for rows in written for row in rows] == [0, 1, 2, 3, 4]
    assert [json.loads(path.read_text()) for path in (tmp_path / "none").iterdir()] == [{"rows": []}]

    def killed() -> Iterator[str]:
        yield from (json.dumps({"row": row}) for row in range(3))
        raise KeyboardInterrupt

    (tmp_path / "killed").mkdir()
    with pytest.raises(KeyboardInterrupt):
        export_module._write_rows(tmp_path / "killed" / "documents-000.json", killed())
    assert not list((tmp_path / "killed").glob("documents-*"))
    (tmp_path / "many" / "documents-000.json").unlink()
    with pytest.raises(
        UserError, match=r"has documents-001\.json and documents-002\.json already; name another folder"
    ):
        check_target(tmp_path / "many", "milvus")


def test_milvus_finds_the_exported_rows(tmp_path: Path) -> None:
    """A collection with the written fields takes the rows, and the written queries find the best documents."""
    from pymilvus import DataType, MilvusClient

    document_NH, query_BH = (np.random.default_rng(seed).random((9, 8), np.float32) for seed in (0, 1))
    texts = zip((f"d {row}" for row in range(9)), plain_vectors(document_NH), strict=True)
    rows = [json.loads(line) for line in document_lines("milvus", texts)]
    written = json.loads(schema("milvus", "dense", 8))
    client = MilvusClient(str(tmp_path / "lite.db"))
    fields = client.create_schema(auto_id=False, enable_dynamic_field=False)
    types = {"Int64": DataType.INT64, "VarChar": DataType.VARCHAR, "FloatVector": DataType.FLOAT_VECTOR}
    for field in written["schema"]["fields"]:
        options = {key: int(value) for key, value in field.get("elementTypeParams", {}).items()}
        is_primary = field.get("isPrimary", False)
        fields.add_field(field["fieldName"], types[field["dataType"]], is_primary=is_primary, **options)
    (described,) = written["indexParams"]
    indexes = client.prepare_index_params()
    indexes.add_index(described["fieldName"], index_type=described["indexType"], metric_type=described["metricType"])
    client.create_collection("irexp", schema=fields, index_params=indexes)
    client.insert("irexp", rows)
    queries = [json.loads(as_query("milvus", "q", vector))["vector"] for vector in plain_vectors(query_BH)]
    found = client.search("irexp", queries, limit=1, output_fields=["id"])
    best_B = (query_BH @ document_NH.T).argmax(axis=1)
    assert [hits[0]["entity"]["id"] for hits in found] == [f"d {row}" for row in best_B]
    client.close()


def test_texts_without_a_term_or_token() -> None:
    """OpenSearch and Vespa have them, with an empty field; Milvus does not take empty vectors."""
    empty = scipy.sparse.csr_array(np.array([[0, 0], [0, 1]], np.float32))
    texts = list(zip("ab", plain_vectors(empty), strict=True))
    assert [json.loads(line) for line in document_lines("opensearch", texts)][1] == {"vector": {}}
    assert [json.loads(line)["fields"]["vector"] for line in document_lines("vespa", texts)] == [
        {"cells": {}},
        {"cells": {"1": 1.0}},
    ]
    assert [json.loads(line) for line in document_lines("milvus", texts)] == [
        {"row": 0, "id": "b", "vector": {"1": 1.0}}
    ]
    tokens = TokenVectors(np.ones((1, 2), np.float32), np.array([0, 0, 1]))
    texts = list(zip("ab", plain_vectors(tokens), strict=True))
    assert [json.loads(line) for line in document_lines("opensearch", texts)][1] == {"vector": []}
    assert json.loads(next(document_lines("vespa", texts)))["fields"]["vector"] == {"blocks": {}}
    assert [json.loads(line)["id"] for line in document_lines("milvus", texts)] == ["b"]


@pytest.mark.parametrize("format", ["opensearch", "milvus"])
def test_negative_weights_are_refused(format: BulkFormat) -> None:
    """They would be refused while the files are loaded."""
    texts = list(zip("a", plain_vectors(scipy.sparse.csr_array(np.array([[1, -1]], np.float32))), strict=True))
    with pytest.raises(UserError, match=f"document 'a' has a term of negative weight, which {format} does not take"):
        list(document_lines(format, texts))
    assert len(list(document_lines("vespa", texts))) == 1


def test_a_format_that_does_not_hold_the_vectors_is_refused_before_anything_is_made(
    compose: Compose, settings: list[str], tmp_path: Path
) -> None:
    """The encoding may take hours; the error names the formats that take them."""
    options = ["stage=[fit,encode,export]", "stage.export.format=ciff", f"stage.export.folder={tmp_path / 'out'}"]
    with pytest.raises(
        UserError, match="format=ciff writes sparse vectors, but the model makes dense ones; opensearch"
    ):
        run(compose, ["model=sbert", *settings, *options], ["fit", "encode", "export"])
    assert not list((tmp_path / "artifacts").rglob("manifest.json"))
