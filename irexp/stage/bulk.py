"""Encodings as other engines load them in bulk: OpenSearch, Vespa, Milvus. Each has a schema, written beside the data.

opensearch   mapping.json: the body of `PUT /<index>`; documents-000.ndjson and further ones: each the body of a
             `POST /<index>/_bulk`, two lines per document, at most 90 MB, since OpenSearch takes 100 MB; dense vectors
             as knn_vector, sparse ones as rank_features, token vectors as nested knn_vectors
vespa        irexp.sd: the schema, with a rank profile; documents.jsonl: what `vespa feed` takes; vectors as tensors:
             dense x[H], sparse term{}, token vectors token{},x[H]
milvus       collection.json: the body of `POST /v2/vectordb/collections/create`; documents-000.json and further ones,
             as the bulk import takes them: rows with a number (the primary key), the document's id, and one vector, so
             that a document has a row for each of its token vectors

A query is a line {"id", "vector"}, whose vector is written as those of the documents. The values in the files are exact
in fp32; OpenSearch itself keeps only about nine significant bits of a weight in rank_features, so that its scores of
sparse vectors differ by up to 0.4 %. A term is the number of its vocabulary entry, since the names of rank_features
have no dots.

Shapes: H dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from irexp.index.vectors import Representation, TokenVectors, Vectors
from irexp.types import UserError

BulkFormat = Literal["opensearch", "vespa", "milvus"]

#: The bytes of the longest `_id` that OpenSearch takes.
_LONGEST_ID = 512

#: One text's vector: values, the weights of terms, or the values of each token.
Plain = list[float] | dict[str, float] | list[list[float]]


def plain_vectors(vectors: Vectors) -> Iterator[Plain]:
    """The vector of each text in the types of JSON."""
    if isinstance(vectors, np.ndarray):
        yield from map(_values, vectors)
    elif isinstance(vectors, TokenVectors):
        for first, last in pairwise(vectors.starts_N1.tolist()):
            yield [_values(vector_H) for vector_H in vectors.vectors_TH[first:last]]
    else:
        for first, last in pairwise(vectors.indptr.tolist()):
            weights = zip(vectors.indices[first:last].tolist(), _values(vectors.data[first:last]), strict=True)
            yield {str(term): weight for term, weight in weights if weight}


def _values(vector_H: NDArray[Any]) -> list[float]:
    """Numbers with the nine digits that fp32 needs, not the seventeen of its value in double precision."""
    return [float(f"{value:.9g}") for value in vector_H.tolist()]


def as_query(format: BulkFormat, query_id: str, vector: Plain) -> str:
    """A line of queries.jsonl."""
    return _json({"id": query_id, "vector": _tensor(vector) if format == "vespa" else vector})


def document_entries(format: BulkFormat, documents: Iterable[tuple[str, Plain]]) -> Iterator[str]:
    """What must not be divided between files: a row of Milvus, without the brackets around all; a document otherwise.

    Raises:
        UserError: if a vector has a negative weight of a term, which OpenSearch and Milvus do not take, or an id is too
            long for OpenSearch.
    """
    row = 0
    for doc_id, vector in documents:
        if isinstance(vector, dict) and format != "vespa" and any(weight < 0 for weight in vector.values()):
            raise UserError(
                f"document {doc_id!r} has a term of negative weight, which {format} does not take; use "
                f"stage.export.format=vespa"
            )
        if format == "opensearch":
            if len(doc_id.encode()) > _LONGEST_ID:
                raise UserError(
                    f"document {doc_id!r} has an id of {len(doc_id.encode())} bytes, and OpenSearch takes at most "
                    f"{_LONGEST_ID}; use stage.export.format=vespa or milvus"
                )
            source = {"vector": [{"values": each} for each in vector] if _is_tokens(vector) else vector}
            yield _json({"index": {"_id": doc_id}}) + "\n" + _json(source)
        elif format == "vespa":
            fields = {"id": doc_id, "vector": _tensor(vector)}
            yield _json({"put": f"id:irexp:irexp::{doc_id}", "fields": fields})
        else:
            for each in _rows(vector):
                yield _json({"row": row, "id": doc_id, "vector": each})
                row += 1


def _is_tokens(vector: Plain) -> bool:
    return isinstance(vector, list) and (not vector or isinstance(vector[0], list))


def _rows(vector: Plain) -> list[Any]:
    """What has a row of its own in Milvus, which takes no vectors without a term."""
    if _is_tokens(vector):
        return list(vector)
    return [vector] if vector else []


def _tensor(vector: Plain) -> dict[str, Any]:
    """A tensor in the short form of Vespa's JSON."""
    if isinstance(vector, dict):
        return {"cells": vector}
    if _is_tokens(vector):
        return {"blocks": {str(number): values for number, values in enumerate(vector)}}
    return {"values": vector}


def schema(format: BulkFormat, kind: Representation, dim: int) -> str:
    """The content of the schema's file.

    Args:
        format: the engine.
        kind: of the vectors.
        dim: H, or the number of vocabulary entries.
    """
    if format == "opensearch":
        return json.dumps(_mapping(kind, dim), indent=1)
    return _vespa_schema(kind, dim) if format == "vespa" else json.dumps(_milvus_collection(kind, dim), indent=1)


def _mapping(kind: Representation, dim: int) -> dict[str, Any]:
    method = {"name": "hnsw", "engine": "faiss", "space_type": "innerproduct"}
    dense = {"type": "knn_vector", "dimension": dim, "method": method}
    fields: dict[str, dict[str, Any]] = {
        "dense": dense,
        "sparse": {"type": "rank_features"},
        "tokens": {"type": "nested", "properties": {"values": dense}},
    }
    settings = {} if kind == "sparse" else {"settings": {"index": {"knn": True}}}
    return {**settings, "mappings": {"properties": {"vector": fields[kind]}}}


def _milvus_collection(kind: Representation, dim: int) -> dict[str, Any]:
    is_sparse = kind == "sparse"
    vector: dict[str, Any] = {"fieldName": "vector", "dataType": "SparseFloatVector" if is_sparse else "FloatVector"}
    if not is_sparse:
        vector["elementTypeParams"] = {"dim": str(dim)}
    fields = [
        {"fieldName": "row", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "id", "dataType": "VarChar", "elementTypeParams": {"max_length": "65535"}},
        vector,
    ]
    structure = "SPARSE_INVERTED_INDEX" if is_sparse else "AUTOINDEX"
    return {
        "collectionName": "irexp",
        "schema": {"autoId": False, "enabledDynamicField": False, "fields": fields},
        "indexParams": [
            {"fieldName": "vector", "indexName": "vector", "metricType": "IP", "indexType": structure},
        ],
    }


def _vespa_schema(kind: Representation, dim: int) -> str:
    """The similarity is the inner product, or MaxSim; of dense vectors there is an index for `nearestNeighbor`."""
    query, document, score = {
        "dense": (f"x[{dim}]", f"x[{dim}]", "sum(query(q) * attribute(vector))"),
        "sparse": ("term{}", "term{}", "sum(query(q) * attribute(vector))"),
        "tokens": (
            f"query_token{{}},x[{dim}]",
            f"token{{}},x[{dim}]",
            "sum(reduce(sum(query(q) * attribute(vector), x), max, token), query_token)",
        ),
    }[kind]
    indexed = "attribute | index" if kind == "dense" else "attribute"
    metric = "\n            attribute { distance-metric: dotproduct }" if kind == "dense" else ""
    return f"""schema irexp {{
    document irexp {{
        field id type string {{
            indexing: attribute | summary
        }}
        field vector type tensor<float>({document}) {{
            indexing: {indexed}{metric}
        }}
    }}
    rank-profile irexp {{
        inputs {{
            query(q) tensor<float>({query})
        }}
        first-phase {{
            expression: {score}
        }}
    }}
}}"""


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
