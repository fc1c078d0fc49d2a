"""What every family's public methods make of one text in place of a list, of no texts, and of other sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from irexp.index.vectors import count
from irexp.model.bi_encoder import BiEncoder
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.types import UserError
from tests import tiny
from tests.model.test_lora import FAMILIES, made


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A tiny model of each family."""
    return made(request.param, tmp_path_factory.mktemp(request.param) / "start")


def methods(model: Model) -> dict[str, Any]:
    """The methods that take a list of texts, to be called with it."""
    found: dict[str, Any] = {
        "documents": lambda texts: model.score("how", texts),
        "documents of several": lambda texts: model.score(["how"], texts),
    }
    if isinstance(model, CrossEncoder):
        lists = {
            "queries of pairs": lambda texts: model.tokenize_pairs(texts, ["how"] * len(texts)),
            "documents of pairs": lambda texts: model.tokenize_pairs(["how"] * len(texts), texts),
            "documents of lists": lambda texts: model.score_lists([("how", texts)]),
        }
    else:
        assert isinstance(model, BiEncoder)
        names = ("embed_queries", "embed_documents", "tokenize_queries", "tokenize_documents")
        lists = {name: getattr(model, name) for name in names}
    return found | lists


def test_one_text_is_no_list_of_texts(model: Model) -> None:
    """Its characters would be, three of "how": refused, with the spelling that is meant; so is anything but a text."""
    found = methods(model)
    assert len(found) == 5 + isinstance(model, BiEncoder)
    for call in found.values():
        with pytest.raises(UserError, match=r"is a single text, where a list of them is needed: \['how'\]"):
            call("how")
        with pytest.raises(UserError, match=r"\[1\] is not a text but of the type NoneType"):
            call(["how", None])
    with pytest.raises(UserError, match=r"query\[1\] is not a text but of the type int"):
        model.score(["how", 3], ["how"])  # type: ignore[list-item]


def test_no_texts_are_as_many_scores(model: Model) -> None:
    """Of no documents, of no queries, of neither; the same scores for a tuple and an array as for a list."""
    assert model.score("how", []).shape == (0,)
    assert model.score(["how", "list"], []).shape == (2, 0)
    assert model.score([], tiny.DOCUMENTS).shape == (0, 4)
    assert model.score([], []).shape == (0, 0)
    expected = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    found = model.score(tuple(tiny.QUERIES), np.array(tiny.DOCUMENTS))  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected)
    if isinstance(model, BiEncoder):
        for texts in ([], ["how"]):
            assert count(model.embed_queries(texts)) == count(model.embed_documents(texts)) == len(texts)
            assert len(model.tokenize_queries(texts)) == len(model.tokenize_documents(texts)) == len(texts)


def test_a_text_of_half_a_character_is_named(model: Model) -> None:
    """As a JSON file may hold it; no tokenizer reads it."""
    with pytest.raises(UserError, match=r"the text '.*a \\ud83d b' has half a character in it"):
        model.score("how", ["list", "a \ud83d b"])
