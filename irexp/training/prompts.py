"""Tokenizing the texts of a batch whose examples have prompts of their own, which replace those of the model.

Shapes: B texts, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from irexp.model.bi_encoder import BiEncoder
from irexp.model.cross_encoder import CrossEncoder, PairIds
from irexp.model.model import Model
from irexp.model.one_encoder import OneEncoder
from irexp.types import Tokens, UserError

#: The attribute of a model that holds a prompt.
PromptName = Literal["query_prompt", "document_prompt"]


def padded(model: BiEncoder, texts: Sequence[str], prompts: Sequence[str | None], *, is_query: bool) -> Tokens:
    """The tokens of texts, each after its prompt.

    Args:
        model: a model whose own prompt is used where there is no other.
        texts: queries or documents.
        prompts: of each text; None for the model's own.
        is_query: whether the texts are queries.
    """
    name: PromptName = "query_prompt" if is_query else "document_prompt"
    tokenize = model.tokenize_queries if is_query else model.tokenize_documents
    if not any(prompt is not None for prompt in prompts):
        return model.pad(tokenize(texts), is_query=is_query)
    ids: list[list[int]] = [[]] * len(texts)
    for prompt, rows in _by_prompt(prompts):
        with _prompted(model, name, prompt):
            for row, of_text in zip(rows, tokenize([texts[row] for row in rows]), strict=True):
                ids[row] = of_text
    found: Tokens | None = None
    for prompt, rows in _by_prompt(prompts):
        with _prompted(model, name, prompt):  # a prompt may be left out of the pooling
            tokens = model.pad(ids, is_query=is_query)
        if found is None:
            found = replace(tokens, pooling_mask_BL=tokens.pooling_mask_BL.clone())
        found.pooling_mask_BL[rows] = tokens.pooling_mask_BL[rows]
    assert found is not None
    return found


def padded_pairs(
    model: CrossEncoder, queries: Sequence[str], documents: Sequence[str], prompts: Sequence[str | None]
) -> Tokens:
    """The tokens of pairs, each query after its prompt; None for the model's own."""
    if not any(prompt is not None for prompt in prompts):
        return model.pad(model.tokenize_pairs(queries, documents))
    found: dict[int, PairIds] = {}
    for prompt, rows in _by_prompt(prompts):
        with _prompted(model, "query_prompt", prompt):
            pairs = model.tokenize_pairs([queries[row] for row in rows], [documents[row] for row in rows])
        found |= zip(rows, pairs, strict=True)
    return model.pad([found[row] for row in range(len(queries))])


def check_prompts(model: Model, prompts: Iterable[tuple[str | None, str | None]]) -> None:
    """Check that a model can use prompts.

    Args:
        model: the model to train.
        prompts: of queries and of documents; None for the model's own.

    Raises:
        UserError: if the model has no such prompt, or a prompt leaves no room for the text.
    """
    for query_prompt, document_prompt in dict.fromkeys(prompts):
        named: list[tuple[PromptName, str | None]] = [
            ("query_prompt", query_prompt),
            ("document_prompt", document_prompt),
        ]
        for name, prompt in named:
            if prompt is None:
                continue
            with _prompted(model, name, prompt):
                is_query = name == "query_prompt"
                if isinstance(model, BiEncoder):
                    (ids,) = (model.tokenize_queries if is_query else model.tokenize_documents)([""])
                elif isinstance(model, OneEncoder):  # whose lengths are those of the texts alone
                    ids = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
                else:
                    continue
                length = model.query_length if is_query else model.document_length
            if length is not None and len(ids) >= length:
                raise UserError(
                    f"the {name} {prompt[:60]!r} of a training set fills the {length} tokens of a text; shorten it, or "
                    f"raise dataset.{name.removesuffix('_prompt')}_length"
                )


def _by_prompt(prompts: Sequence[str | None]) -> Iterator[tuple[str | None, list[int]]]:
    """Each prompt with the rows that have it."""
    rows: dict[str | None, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(row)
    return iter(rows.items())


@contextmanager
def _prompted(model: Model, name: PromptName, prompt: str | None) -> Iterator[None]:
    """The model with another prompt; None for its own."""
    if prompt is None:
        yield
        return
    if not hasattr(model, name):
        raise UserError(f"{type(model).__name__} has no {name}; leave it out of the training sets")
    own = getattr(model, name)
    setattr(model, name, prompt)
    try:
        yield
    finally:
        setattr(model, name, own)
