"""The Common Index File Format, for exchanging inverted indexes (Lin et al. 2020, arXiv:2003.08276).

A header, the posting lists by term with document numbers as gaps, and the documents; each is a protocol buffer preceded
by its length.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

_MESSAGES = {
    "Header": [
        *(("version", "int32"), ("num_postings_lists", "int32"), ("num_docs", "int32")),
        *(("total_postings_lists", "int32"), ("total_docs", "int32"), ("total_terms_in_collection", "int64")),
        *(("average_doclength", "double"), ("description", "string")),
    ],
    "Posting": [("docid", "int32"), ("tf", "int32")],
    "PostingsList": [("term", "string"), ("df", "int64"), ("cf", "int64"), ("postings", "Posting")],
    "DocRecord": [("docid", "int32"), ("collection_docid", "string"), ("doclength", "int32")],
}


def write_ciff(
    path: Path,
    postings: Iterable[tuple[str, list[int], list[int]]],
    documents: Iterable[tuple[str, int]],
    *,
    lists: int,
    count: int,
    total: int,
    description: str,
) -> None:
    """Write an index.

    Args:
        path: the file.
        postings: sorted terms, each with ascending document numbers and their impacts.
        documents: ids in the order of the document numbers, each with the sum of its impacts.
        lists: the number of terms.
        count: the number of documents.
        total: the sum of all impacts.
        description: free text for the header.
    """
    from google.protobuf.internal.encoder import _VarintBytes

    messages = _messages()
    with path.open("wb") as file:

        def put(message: Any) -> None:
            data = message.SerializeToString()
            file.write(_VarintBytes(len(data)))
            file.write(data)

        put(
            messages["Header"](
                version=1,
                num_postings_lists=lists,
                num_docs=count,
                total_postings_lists=lists,
                total_docs=count,
                total_terms_in_collection=total,
                average_doclength=total / max(1, count),
                description=description,
            )
        )
        for term, rows, impacts in postings:
            gaps = [row - before for row, before in zip(rows, [0, *rows], strict=False)]
            posted = [messages["Posting"](docid=gap, tf=tf) for gap, tf in zip(gaps, impacts, strict=True)]
            put(messages["PostingsList"](term=term, df=len(rows), cf=sum(impacts), postings=posted))
        for number, (doc_id, length) in enumerate(documents):
            put(messages["DocRecord"](docid=number, collection_docid=doc_id, doclength=length))


def _messages() -> dict[str, Any]:
    """The message classes, made from `_MESSAGES`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="irexp_ciff.proto", package="irexp.ciff", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            if kind in _MESSAGES:
                message.field.add(
                    name=field,
                    number=number,
                    label=kinds.LABEL_REPEATED,
                    type=kinds.TYPE_MESSAGE,
                    type_name=f".irexp.ciff.{kind}",
                )
            else:
                scalar = getattr(kinds, f"TYPE_{kind.upper()}")
                message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL, type=scalar)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"irexp.ciff.{name}")) for name in _MESSAGES
    }
