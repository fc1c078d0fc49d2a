"""The stage that writes an encoding, and the queries, for other engines.

Sparse vectors, with the names of their terms:

anserini   docs.jsonl of {"id", "contents", "vector": {term: impact}} and queries.tsv, each term repeated impact times
ciff       index.ciff, with impacts as term frequencies, and queries.tsv
seismic    docs.jsonl of {"id", "content", "vector": {term: weight}} and queries.jsonl

An impact is the weight times `scale`, rounded. Terms are the tokens of the checkpoint's tokenizer.

Vectors of any kind, with a schema: opensearch, vespa and milvus, see `irexp.stage.bulk`.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from irexp.config.schema import Machine
from irexp.dataset.collection import Topics
from irexp.index.ciff import write_ciff
from irexp.index.shards import EncodedDocuments
from irexp.index.sparse import SparseIndex
from irexp.index.vectors import Vectors
from irexp.model.model import Model
from irexp.pipeline.machine import prepare
from irexp.progress import progress
from irexp.stage.bulk import BulkFormat, Plain, as_query, document_lines, plain_vectors, schema
from irexp.stage.checkpoint import open_encoder
from irexp.stage.files import Format, check_kind, check_target
from irexp.types import Query, UserError

log = logging.getLogger(__name__)

#: The characters of one file of rows; the bulk import of Milvus takes 16 GB.
_MOST = 2**32


def export(
    output: Path,
    encoding: Path,
    checkpoint: str,
    *,
    format: Format,
    folder: str,
    scale: float,
    model: partial[Model],
    topics: Topics,
    machine: Machine,
) -> Path:
    """Write documents and queries into `folder`; nothing is written into `output`, the job's own folder.

    Returns:
        The folder with the files.

    Raises:
        UserError: if one of the files exists, or the format does not take the encoding's vectors.
    """
    target = Path(folder)
    files = check_target(target, format)
    encoded = EncodedDocuments(encoding)
    check_kind(format, encoded.representation, f"{encoding} holds")
    if encoded.has_token_ids:
        raise UserError(
            "this model compares only vectors of the same token, which no other engine does: use index=coil"
        )
    prepare(machine)
    encoder = open_encoder(checkpoint, model)
    queries = list(topics.queries())
    with torch.inference_mode():
        vectors = encoder.embed_queries([query.text for query in queries])
    target.mkdir(parents=True, exist_ok=True)
    match format:
        case "opensearch" | "vespa" | "milvus":
            _write_bulk(format, files, encoded, queries, vectors, machine)
        case _:
            tokenizer: Any = encoder.tokenizer
            _write_terms(format, files, encoded, queries, vectors, tokenizer, scale, machine)
    log.info("export: %s", target.resolve())
    return target


def _write_terms(
    format: Format,
    files: Sequence[Path],
    encoded: EncodedDocuments,
    queries: Sequence[Query],
    vectors: Vectors,
    tokenizer: Any,
    scale: float,
    machine: Machine,
) -> None:
    """Write sparse vectors with the names of their terms."""
    assert isinstance(vectors, scipy.sparse.csr_array)
    terms: list[str] = tokenizer.convert_ids_to_tokens(list(range(encoded.dim)))
    terms = [term if term is not None else f"[{number}]" for number, term in enumerate(terms)]
    documents_file, queries_file = files
    with _complete(documents_file) as path:
        if format == "ciff":
            _write_ciff(path, encoded, terms, scale)
        else:
            _write_documents(path, encoded, terms, scale if format == "anserini" else None, machine)
    with _complete(queries_file) as path:
        is_seismic = format == "seismic"
        _write_lines(
            path, _as_seismic(queries, vectors, terms) if is_seismic else _as_bags(queries, vectors, terms, scale)
        )


def _write_bulk(
    format: BulkFormat,
    files: Sequence[Path],
    encoded: EncodedDocuments,
    queries: Sequence[Query],
    vectors: Vectors,
    machine: Machine,
) -> None:
    """Write vectors of any kind, and their schema."""
    schema_file, documents_file, queries_file = files
    with progress(total=len(encoded), unit=" documents", desc="export", shown=machine.progress) as bar:
        plain = (vector for batch in encoded.batches() for vector in plain_vectors(batch))
        lines = document_lines(format, _counted(zip(encoded.ids, plain, strict=True), bar.update))
        if format == "milvus":
            _write_rows(documents_file, lines)
        else:
            with _complete(documents_file) as path:
                _write_lines(path, lines)
    with _complete(queries_file) as path:
        pairs = zip(queries, plain_vectors(vectors), strict=True)
        _write_lines(path, (as_query(format, query.query_id, vector) for query, vector in pairs))
    with _complete(schema_file) as path:
        _write_lines(path, iter([schema(format, encoded.representation, encoded.dim)]))


def _write_rows(first: Path, lines: Iterator[str]) -> None:
    """Write Milvus's rows into files of bounded size: documents-000.json, documents-001.json and so on."""
    line, written = next(lines, None), list[Path]()
    with ExitStack() as all_complete:  # none has its name before the last one is complete
        while line is not None or not written:
            written.append(all_complete.enter_context(_complete(first.with_name(f"documents-{len(written):03}.json"))))
            with written[-1].open("w", encoding="utf8") as file:
                size = file.write('{"rows":[')
                separator = "\n"
                while line is not None and size < _MOST:
                    size += file.write(separator + line)
                    line, separator = next(lines, None), ",\n"
                file.write("\n]}\n")


def _counted(documents: Iterable[tuple[str, Plain]], advance: Callable[[int], object]) -> Iterator[tuple[str, Plain]]:
    for document in documents:
        yield document
        advance(1)


@contextmanager
def _complete(path: Path) -> Iterator[Path]:
    """A file to write to, which is given its name once it is complete."""
    partial = path.with_name(f".partial-{path.name}")
    yield partial
    os.replace(partial, path)


def _write_documents(
    path: Path, encoded: EncodedDocuments, terms: list[str], scale: float | None, machine: Machine
) -> None:
    def lines() -> Iterator[str]:
        ids = iter(encoded.ids)
        bar = progress(total=len(encoded), unit=" documents", desc="export", shown=machine.progress)
        for batch in encoded.batches():
            assert isinstance(batch, scipy.sparse.csr_array)
            for row in range(batch.shape[0]):
                inside = slice(batch.indptr[row], batch.indptr[row + 1])
                vector = _vector(batch.indices[inside], batch.data[inside], terms, scale)
                name = "contents" if scale is not None else "content"
                yield json.dumps({"id": next(ids), name: "", "vector": vector}, ensure_ascii=False)
            bar.update(batch.shape[0])
        bar.close()

    _write_lines(path, lines())


def _as_seismic(queries: Sequence[Query], weights: scipy.sparse.csr_array, terms: list[str]) -> Iterator[str]:
    for row, query in enumerate(queries):
        inside = slice(weights.indptr[row], weights.indptr[row + 1])
        vector = _vector(weights.indices[inside], weights.data[inside], terms, None)
        yield json.dumps({"id": query.query_id, "content": query.text, "vector": vector}, ensure_ascii=False)


def _as_bags(
    queries: Sequence[Query], weights: scipy.sparse.csr_array, terms: list[str], scale: float
) -> Iterator[str]:
    for row, query in enumerate(queries):
        inside = slice(weights.indptr[row], weights.indptr[row + 1])
        vector = _vector(weights.indices[inside], weights.data[inside], terms, scale)
        yield query.query_id + "\t" + " ".join(term for term, impact in vector.items() for _ in range(int(impact)))


def _vector(indices: np.ndarray, data: np.ndarray, terms: list[str], scale: float | None) -> dict[str, float]:
    """Term → weight, or → whole impact where there is one."""
    if scale is None:
        return {terms[index]: round(float(value), 6) for index, value in zip(indices.tolist(), data, strict=True)}
    impacts = np.rint(data * scale).astype(int).tolist()
    return {terms[index]: impact for index, impact in zip(indices.tolist(), impacts, strict=True) if impact > 0}


def _write_ciff(path: Path, encoded: EncodedDocuments, terms: list[str], scale: float) -> None:
    """By way of an inverted index, whose posting lists are already in order."""
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        index = SparseIndex()
        index.build(encoded, Path(name))
        index.load(Path(name))
        lengths = np.zeros(len(encoded), np.int64)
        counts = np.zeros(encoded.dim, np.int64)
        for term in range(encoded.dim):
            rows, impacts = _impacts(index, term, scale)
            counts[term] = len(rows)
            np.add.at(lengths, rows, impacts)

        def postings() -> Iterator[tuple[str, list[int], list[int]]]:
            for term in sorted(np.flatnonzero(counts).tolist(), key=lambda term: terms[term]):
                rows, impacts = _impacts(index, term, scale)
                yield terms[term], rows.tolist(), impacts.tolist()

        write_ciff(
            path,
            postings(),
            zip(encoded.ids, lengths.tolist(), strict=True),
            lists=int((counts > 0).sum()),
            count=len(encoded),
            total=int(lengths.sum()),
            description=f"irexp, weights times {scale:g}",
        )


def _impacts(index: SparseIndex, term: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    rows, weights = index.postings(term)
    impacts = np.rint(weights * scale).astype(np.int64)
    return rows[impacts > 0], impacts[impacts > 0]


def _write_lines(path: Path, lines: Iterator[str]) -> None:
    with path.open("w", encoding="utf8") as file:
        for line in lines:
            file.write(line + "\n")
