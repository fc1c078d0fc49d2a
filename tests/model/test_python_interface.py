"""Every family's public methods on a single text instead of a list, on empty lists, and on other sequences."""

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
    """The methods that take a list of texts, as functions of that list."""
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


def test_a_single_text_instead_of_a_list_is_refused(model: Model) -> None:
    """The letters of "how" would be taken for three texts; items that are not texts are refused, too."""
    found = methods(model)
    assert len(found) == 5 + isinstance(model, BiEncoder)
    for call in found.values():
        with pytest.raises(UserError, match=r"is a single text, but must be a list of texts: \['how'\]"):
            call("how")
        with pytest.raises(UserError, match=r"\[1\] is a NoneType, but must be a text"):
            call(["how", None])
    with pytest.raises(UserError, match=r"query\[1\] is a int, but must be a text"):
        model.score(["how", 3], ["how"])  # type: ignore[list-item]


def test_empty_lists_give_empty_scores_and_any_sequence_is_accepted(model: Model) -> None:
    """Shapes are right without queries, documents or both; a tuple and an array score as a list."""
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


def test_a_text_with_an_unpaired_surrogate_is_refused_by_name(model: Model) -> None:
    """JSON files may contain one; tokenizers would fail without naming the text."""
    with pytest.raises(UserError, match=r"the text '.*a \\ud83d b' contains half a character"):
        model.score("how", ["list", "a \ud83d b"])
