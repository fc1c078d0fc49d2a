"""All libraries get the same texts and pairs, of known length."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.dataset.in_memory import TextDocuments
from irexp.model.dense import DenseBiEncoder
from irexp.model.mono import Mono
from irexp.peer.data import operations, some_texts, texts_of_length, write_texts
from tests import tiny

#: Texts of three, three and six words that are one token each.
TEXTS = ["list all buckets", "stop an instance", "create a queue and delete it"]


def test_texts_are_drawn_from_all_over_the_collection() -> None:
    """The first ones alone may be special."""
    assert some_texts(TextDocuments([str(number) for number in range(10)]), 5) == ["0", "2", "4", "6", "8"]
    assert some_texts(TextDocuments(["a"]), 5) == ["a"]


def test_the_tokens_of_texts_and_pairs_are_counted(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """With the special tokens: two per text, three per pair, whose query is the first text's beginning."""
    bi = write_texts(tmp_path / "texts.json", DenseBiEncoder(backbones["encoder"]), TEXTS[:2])
    assert (bi.count, bi.length) == (2, 5.0)
    pairs = write_texts(tmp_path / "pairs.json", Mono(backbones["encoder"]), TEXTS[:2])
    assert (pairs.count, pairs.length) == (2, 9.0)
    assert json.loads(pairs.path.read_text()) == [[TEXTS[0], TEXTS[0]], [TEXTS[0], TEXTS[1]]]


def test_a_pair_is_cut_to_the_lengths_of_the_model(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """A longer one would be cut in another way by each library, which would then score another text."""
    model = Mono(backbones["encoder"], query_length=1, document_length=2)
    pairs = write_texts(tmp_path / "pairs.json", model, TEXTS[:2])
    assert json.loads(pairs.path.read_text()) == [["list", "list all"], ["list", "stop an"]]
    assert pairs.length == 6.0


def test_texts_of_a_length_are_the_same_words_in_other_pieces(
    backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """Half of them, so that the curve costs half as much as the table."""
    whole = write_texts(tmp_path / "texts.json", DenseBiEncoder(backbones["encoder"]), TEXTS[:2] * 4)
    assert texts_of_length(TEXTS[:2] * 4, whole, 10) == [" ".join(TEXTS[:2])] * 2


def test_the_operations_of_a_transformer_are_those_of_its_layers(tmp_path: Path) -> None:
    """Two per weight: four square products of attention and the two of the feed-forward network, in two layers."""
    width, inner = 16, 24
    model = DenseBiEncoder(HuggingFaceBackbone(str(tiny.bert(tmp_path))))
    assert operations(model) == 2 * 2 * (4 * width * width + 2 * width * inner)
    assert operations(model) == pytest.approx(operations(Mono(HuggingFaceBackbone(str(tmp_path)))))
