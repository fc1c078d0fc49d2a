"""What the libraries work on: the same texts, pairs and training batches, as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from torch import nn

from irexp.dataset.collection import Documents, Examples
from irexp.dataset.sources import open_documents, open_examples
from irexp.model.bi_encoder import BiEncoder
from irexp.model.cross_encoder import CrossEncoder, cut_once
from irexp.model.model import Model
from irexp.peer.work import Texts
from irexp.training.batch import Batches
from irexp.types import Example, UserError

#: Words of a document that serve as a query, and documents per query.
_QUERY_WORDS, _DEPTH = 8, 32

#: Training examples that are written; batches are drawn from them.
_EXAMPLES = 50_000


def some_texts(documents: Documents, count: int) -> list[str]:
    """Texts from all over the beginning of a collection, `count` or fewer."""
    texts = [document.text for document in islice(documents, 100 * count)]
    return texts[:: max(1, len(texts) // count)][:count]


def write_texts(path: Path, model: Model, texts: Sequence[str]) -> Texts:
    """Write texts for a bi-encoder, or for a cross-encoder pairs, each query with some documents.

    Both sides of a pair fit into the model, since the libraries differ in what they cut off a pair that is too long.
    """
    if isinstance(model, CrossEncoder):
        heads = [" ".join(texts[row // _DEPTH * _DEPTH].split()[:_QUERY_WORDS]) for row in range(len(texts))]
        heads = cut_once(model.tokenizer, heads, model.query_length)
        texts = cut_once(model.tokenizer, texts, model.document_length)
        lengths = [len(pair.ids) for pair in model.tokenize_pairs(heads, texts)]
        content: list[object] = list(zip(heads, texts, strict=True))
    else:
        assert isinstance(model, BiEncoder)
        lengths, content = [len(ids) for ids in model.tokenize_documents(texts)], list(texts)
    path.write_text(json.dumps(content), encoding="utf8")
    return Texts(path, len(texts), sum(lengths) / len(texts))


def texts_of_length(texts: Sequence[str], whole: Texts, length: int) -> list[str]:
    """The same words in texts of about a number of tokens each, half as many tokens in all.

    Args:
        texts: as they are.
        whole: how many tokens they have.
        length: tokens per text.
    """
    words = [word for text in texts for word in text.split()]
    size = max(1, round(length * len(words) / (whole.count * whole.length)))
    return [" ".join(words[start : start + size]) for start in range(0, max(1, len(words) // 2), size)]


def operations(model: Model) -> int:
    """Floating-point operations per token in the linear layers of a model's stack of layers."""
    encoder, _ = next(iter(model.encoders().values()))
    stacks = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    linear = {id(layer): layer for stack in stacks for layer in stack.modules() if isinstance(layer, nn.Linear)}
    return sum(2 * layer.weight.numel() for layer in linear.values())


def write_batches(
    folder: Path, examples: Examples, documents: Documents, model: Model, *, steps: int, batch_size: int, seed: int
) -> int:
    """Write training examples in BEIR's layout, those of each batch that irexp draws from these, and a probe.

    Returns:
        The number of batches in which a query's known relevant document belongs to another query: irexp leaves it out,
        the other libraries take it for a negative.

    Raises:
        UserError: if the examples have no positive document.
    """
    if not examples.is_positive_first:
        raise UserError("the first document of a training example must be relevant; choose another dataset.train")
    _write_collection(folder, examples, documents)
    own, texts = open_examples(folder), open_documents(folder)
    batches = Batches(own, texts, model, size=batch_size, in_batch=True, seed=seed)
    drawn = [[own[position] for position in batches.positions(number)] for number in range(steps)]
    flat = [example for batch in drawn for example in batch]
    text_of = texts.get_many({example.doc_ids[0] for example in flat})
    for name, some in (("pairs", flat), ("probe", without_known_positives(own, drawn[0]))):
        rows = (
            {
                "query_id": example.query.query_id,
                "query": example.query.text,
                "doc_id": example.doc_ids[0],
                "document": text_of[example.doc_ids[0]].text,
            }
            for example in some
        )
        _write_lines(folder / f"{name}.jsonl", map(json.dumps, rows))
    return sum(len(without_known_positives(own, batch)) < len(batch) for batch in drawn)


def _write_collection(folder: Path, examples: Examples, documents: Documents) -> None:
    some = [examples[row] for row in range(min(len(examples), _EXAMPLES))]
    (folder / "qrels").mkdir(parents=True)
    queries = {example.query.query_id: example.query.text for example in some}
    pairs = {
        (example.query.query_id, doc_id): None
        for example in some
        for doc_id in (example.doc_ids[0], *sorted(examples.relevant_doc_ids(example.query.query_id)))
    }
    found = documents.get_many(dict.fromkeys(doc_id for _, doc_id in pairs))
    for name, texts in (("queries", queries), ("corpus", {doc_id: found[doc_id].text for doc_id in found})):
        lines = (json.dumps({"_id": identifier, "text": text}) for identifier, text in texts.items())
        _write_lines(folder / f"{name}.jsonl", lines)
    judged = (f"{query_id}\t{doc_id}\t1" for query_id, doc_id in pairs if doc_id in found)
    _write_lines(folder / "qrels" / "train.tsv", ["query-id\tcorpus-id\tscore", *judged])


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")


def without_known_positives(examples: Examples, batch: Sequence[Example]) -> list[Example]:
    """The examples of a batch whose documents are not known to be relevant to another one's query, in order."""
    kept: list[Example] = []
    for example in batch:
        relevant = examples.relevant_doc_ids(example.query.query_id)
        others = {other.doc_ids[0] for other in kept}
        is_known = any(example.doc_ids[0] in examples.relevant_doc_ids(other.query.query_id) for other in kept)
        if not is_known and not relevant & others:
            kept.append(example)
    return kept
