"""Sparse vectors with the names of their terms, as `irexp.stage.export` writes them for Anserini, CIFF and Seismic."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from irexp.config.schema import Machine
from irexp.index.ciff import write_ciff
from irexp.index.shards import EncodedDocuments
from irexp.index.sparse import SparseIndex
from irexp.progress import progress
from irexp.stage.export_files import complete, write_lines
from irexp.stage.files import TermFormat
from irexp.types import Query, UserError

log = logging.getLogger(__name__)

#: The largest term frequency and the largest length of a text, 32-bit integers in CIFF and in Lucene.
_MOST = 2**31 - 1


def write_terms(
    format: TermFormat,
    files: Sequence[Path],
    encoded: EncodedDocuments,
    queries: Sequence[Query],
    vectors: scipy.sparse.csr_array,
    *,
    terms: Sequence[str],
    scale: float,
    machine: Machine,
) -> None:
    """Write documents and queries; see `irexp.stage.export.export`."""
    documents_file, queries_file = files
    with complete(documents_file) as path:
        if format == "ciff":
            _write_ciff(path, encoded, terms, scale)
        else:
            write_lines(path, _documents(encoded, terms, scale if format == "anserini" else None, machine))
    with complete(queries_file) as path:
        is_seismic = format == "seismic"
        write_lines(
            path, _as_seismic(queries, vectors, terms) if is_seismic else _as_bags(queries, vectors, terms, scale)
        )


def term_names(tokenizer: Any, size: int) -> list[str]:
    """A name for each of the first `size` vocabulary entries: its token, or its number in brackets.

    Terms are separated by whitespace in queries.tsv and where Lucene divides a document, and found by their names. A
    token with whitespace, such as the indentations of tokenizers for source code, is therefore named by its number; so
    is an entry without a token, and one whose token an entry before has.

    Args:
        tokenizer: of the checkpoint.
        size: the dimensions of the vectors.
    """
    tokens: list[str | None] = tokenizer.convert_ids_to_tokens(list(range(size)))
    entry_of: dict[str, int] = {}
    for number, token in enumerate(tokens):
        if token and not any(map(str.isspace, token)):
            entry_of.setdefault(token, number)
    names = []
    for number, token in enumerate(tokens):
        name = token if token and entry_of.get(token) == number else f"[{number}]"
        while entry_of.get(name, number) != number:  # a token that looks like a number in brackets
            name = f"[{name}]"
        names.append(name)
    return names


def check_impacts(
    encoded: EncodedDocuments, queries: Sequence[Query], vectors: scipy.sparse.csr_array, scale: float
) -> None:
    """Refuse a scale whose impacts no index holds, before anything is written.

    Raises:
        UserError: if the impacts of a text exceed 32 bits, or all of the documents' are zero.
    """
    largest, first = 0.0, 0
    for batch in encoded.batches():
        assert isinstance(batch, scipy.sparse.csr_array)
        row, total = _longest(batch, scale)
        if total > _MOST:
            raise _too_large(f"document {encoded.ids[first + row]!r}", total, scale)
        largest = max(largest, float(batch.data.max(initial=0)))
        first += batch.shape[0]
    if largest > 0 and np.rint(largest * scale) < 1:
        raise UserError(
            f"stage.export.scale={scale:g} makes an impact of 0 of every weight, since the largest is {largest:g}; use "
            f"a larger one, such as {100 / largest:.3g}"
        )
    row, total = _longest(vectors, scale)
    if total > _MOST:
        raise _too_large(f"query {queries[row].query_id!r}", total, scale)


def _longest(vectors: scipy.sparse.csr_array, scale: float) -> tuple[int, float]:
    """The row of the text with the largest sum of impacts, and that sum."""
    impacts = np.maximum(np.rint(vectors.data.astype(np.float64) * scale), 0)
    totals = scipy.sparse.csr_array((impacts, vectors.indices, vectors.indptr), shape=vectors.shape).sum(axis=1)
    row = int(np.argmax(totals)) if len(totals) else 0
    return row, float(totals[row]) if len(totals) else 0.0


def _too_large(text: str, total: float, scale: float) -> UserError:
    return UserError(
        f"stage.export.scale={scale:g} is too large: the impacts of {text} add up to {total:.4g}, and an index holds "
        f"at most {_MOST:,}; use at most {0.99 * scale * _MOST / total:.3g}, usually 100"
    )


def _documents(encoded: EncodedDocuments, terms: Sequence[str], scale: float | None, machine: Machine) -> Iterator[str]:
    ids = iter(encoded.ids)
    with progress(total=len(encoded), unit=" documents", desc="export", shown=machine.progress) as bar:
        for batch in encoded.batches():
            assert isinstance(batch, scipy.sparse.csr_array)
            for row in range(batch.shape[0]):
                name = "contents" if scale is not None else "content"
                vector = _vector(batch, row, terms, scale)
                yield json.dumps({"id": next(ids), name: "", "vector": vector}, ensure_ascii=False)
            bar.update(batch.shape[0])


def _as_seismic(queries: Sequence[Query], weights: scipy.sparse.csr_array, terms: Sequence[str]) -> Iterator[str]:
    for row, query in enumerate(queries):
        vector = _vector(weights, row, terms, None)
        yield json.dumps({"id": query.query_id, "content": query.text, "vector": vector}, ensure_ascii=False)


def _as_bags(
    queries: Sequence[Query], weights: scipy.sparse.csr_array, terms: Sequence[str], scale: float
) -> Iterator[str]:
    empty: list[str] = []
    for row, query in enumerate(queries):
        vector = _vector(weights, row, terms, scale)
        if vector:
            yield query.query_id + "\t" + " ".join(term for term, impact in vector.items() for _ in range(int(impact)))
        else:
            empty.append(query.query_id)
    if empty:
        log.warning(
            "%d queries have no impact above 0, such as %s, and are not written, since Anserini stops at a query "
            "without terms; they have no results",
            len(empty),
            empty[0],
        )


def _vector(weights: scipy.sparse.csr_array, row: int, terms: Sequence[str], scale: float | None) -> dict[str, float]:
    """Term → weight, or → whole impact where there is one."""
    inside = slice(weights.indptr[row], weights.indptr[row + 1])
    indices, data = weights.indices[inside].tolist(), weights.data[inside]
    if scale is None:
        return {terms[index]: round(float(value), 6) for index, value in zip(indices, data, strict=True)}
    impacts = np.rint(data * scale).astype(int).tolist()
    return {terms[index]: impact for index, impact in zip(indices, impacts, strict=True) if impact > 0}


def _write_ciff(path: Path, encoded: EncodedDocuments, terms: Sequence[str], scale: float) -> None:
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
