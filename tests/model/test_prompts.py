"""Prompts, which must leave room for a text: two queries cut to their prompt would be the same query."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.mono import Mono
from irexp.model.splade import SPLADE
from irexp.types import UserError

PROMPT = "how do i list all of the buckets: "  # 9 tokens

#: The shortest length that leaves room for one token, with special tokens and markers.
SHORTEST: dict[Callable[..., Any], int] = {DenseBiEncoder: 12, SPLADE: 12, ColBERT: 13, Mono: 10}


@pytest.mark.parametrize("family", SHORTEST, ids=lambda family: family.__name__)
def test_a_prompt_leaves_room_for_a_text(
    family: Callable[..., Any], backbones: dict[str, HuggingFaceBackbone], folders: dict[str, Any]
) -> None:
    """The shortest length keeps two queries apart; one token less is refused."""
    shortest = SHORTEST[family]
    model = family(backbones["encoder"], query_prompt=PROMPT, query_length=shortest)
    texts = ["stop", "create"]
    first, second = model.tokenize_pairs(texts, ["a"] * 2) if family is Mono else model.tokenize_queries(texts)
    assert first != second
    with pytest.raises(UserError, match=rf"model\.query_length={shortest - 1}: the minimum is {shortest}: "):
        family(backbones["encoder"], query_prompt=PROMPT, query_length=shortest - 1)


def test_a_prompt_counts_in_the_default_length(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """An instruction of more than 32 tokens needs a length of its own."""
    with pytest.raises(UserError, match=r"model\.query_length=32: the minimum is 39: "):
        SPLADE(backbones["encoder"], query_prompt=PROMPT * 4)
