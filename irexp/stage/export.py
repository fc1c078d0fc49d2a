"""The stage that writes an encoding, and the queries, for other engines.

Sparse vectors, with the names of their terms:

anserini   docs.jsonl of {"id", "contents", "vector": {term: impact}} and queries.tsv, each term repeated impact times
ciff       index.ciff, with impacts as term frequencies, and queries.tsv
seismic    docs.jsonl of {"id", "content", "vector": {term: weight}} and queries.jsonl

An impact is the weight times `scale`, rounded. Terms are the tokens of the checkpoint's tokenizer; a token with
whitespace in it is replaced by its number in brackets, since whitespace separates terms.

Vectors of any kind, with a schema: opensearch, vespa and milvus, see `irexp.stage.bulk`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import scipy.sparse
import torch

from irexp.config.schema import Machine
from irexp.dataset.collection import Topics
from irexp.index.shards import EncodedDocuments
from irexp.index.vectors import Vectors
from irexp.model.model import Model
from irexp.pipeline.machine import prepare
from irexp.progress import progress
from irexp.stage.bulk import BulkFormat, Plain, as_query, document_entries, plain_vectors, schema
from irexp.stage.checkpoint import open_encoder
from irexp.stage.export_files import complete, make_folder, write_lines, write_parts
from irexp.stage.export_terms import check_impacts, term_names, write_terms
from irexp.stage.files import Format, check_kind, check_scale, check_target
from irexp.types import Query

log = logging.getLogger(__name__)

#: The bytes of one file: OpenSearch takes requests of 100 MB, the bulk import of Milvus files of 16 GB.
_MOST = {"opensearch": 90 * 10**6, "milvus": 2**32}


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
        UserError: if one of the files exists, if the format does not take the encoding's vectors, or if the impacts
            are out of range.
    """
    target = Path(folder)
    check_scale(scale)
    files = check_target(target, format)
    encoded = EncodedDocuments(encoding)
    check_kind(format, encoded.representation, f"{encoding} holds", matches_tokens=encoded.has_token_ids)
    prepare(machine)
    encoder = open_encoder(checkpoint, model)
    queries = list(topics.queries())
    with torch.inference_mode():
        vectors = encoder.embed_queries([query.text for query in queries])
    match format:
        case "opensearch" | "vespa" | "milvus":
            make_folder(target)
            _write_bulk(format, files, encoded, queries, vectors, machine)
        case _:
            assert isinstance(vectors, scipy.sparse.csr_array)
            if format != "seismic":
                check_impacts(encoded, queries, vectors, scale)
            make_folder(target)
            tokenizer: Any = encoder.tokenizer
            terms = term_names(tokenizer, encoded.dim)
            write_terms(format, files, encoded, queries, vectors, terms=terms, scale=scale, machine=machine)
    log.info("export: %s", target.resolve())
    return target


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
        entries = document_entries(format, _counted(zip(encoded.ids, plain, strict=True), bar.update))
        if format == "milvus":
            rows = {"head": '{"rows":[\n', "between": ",\n", "tail": "\n]}\n"}
            write_parts(documents_file, entries, most=_MOST[format], **rows)
        elif format == "opensearch":
            write_parts(documents_file, entries, most=_MOST[format])
        else:
            with complete(documents_file) as path:
                write_lines(path, entries)
    with complete(queries_file) as path:
        pairs = zip(queries, plain_vectors(vectors), strict=True)
        write_lines(path, (as_query(format, query.query_id, vector) for query, vector in pairs))
    with complete(schema_file) as path:
        write_lines(path, iter([schema(format, encoded.representation, encoded.dim)]))


def _counted(documents: Iterable[tuple[str, Plain]], advance: Callable[[int], object]) -> Iterator[tuple[str, Plain]]:
    for document in documents:
        yield document
        advance(1)
