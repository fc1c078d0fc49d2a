"""Tokenizers: they must fit their transformer, append the end token once, and their errors name the cause."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.mono import Mono
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.types import UserError
from tests import tiny
from tests.model.architectures import ARCHITECTURES, make_backbone

END, BEGIN = tiny.WORDS.index("</s>"), tiny.WORDS.index("[CLS]")


def without_tokenizer(folder: Path, head: str = "BertForMaskedLM") -> Path:
    """A folder as a trainer saves it: weights and configuration, but no tokenizer."""
    (tiny.decoder if head.startswith("Arcee") else tiny.bert)(folder, head)
    for path in (*folder.glob("tokenizer*"), *folder.glob("special_tokens*")):
        path.unlink()
    return folder


@pytest.mark.parametrize("family", [DenseBiEncoder, SPLADE, ColBERT, Mono, TokenLogit])
def test_a_folder_without_a_tokenizer_is_refused(family: type[Any], tmp_path: Path) -> None:
    """With the empty tokenizer that transformers makes, every text would be the same two tokens, and every score 1."""
    head = "ArceeForCausalLM" if family is TokenLogit else "BertForMaskedLM"
    folder = without_tokenizer(tmp_path / "checkpoint-500", head)
    with pytest.raises(UserError, match="has no tokenizer, and an empty one would map every text to the same tokens"):
        family(HuggingFaceBackbone(str(folder)))


def test_the_error_for_a_missing_tokenizer_says_where_to_get_it(tmp_path: Path) -> None:
    """It gives a command that works: from the parent folder, else from the model that config.json names."""
    folder = without_tokenizer(tmp_path / "trained" / "checkpoint-500")
    with pytest.raises(UserError, match=r"AutoTokenizer\.from_pretrained\('the model that it was trained from'\)"):
        load(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | {"_name_or_path": "owner/base"}))
    with pytest.raises(UserError, match=r"AutoTokenizer\.from_pretrained\('owner/base'\)"):
        load(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny.bert(tmp_path / "plain"))
    tokenizer.save_pretrained(tmp_path / "trained")
    with pytest.raises(UserError, match="trained'") as raised:
        load(folder, like=partial(SPLADE))  # type: ignore[arg-type]
    command = str(raised.value).partition("Save it there: ")[2]
    exec(f"from transformers import AutoTokenizer\n{command}")
    assert load(folder).score(tiny.QUERIES, tiny.DOCUMENTS).std() > 0


def test_a_tokenizer_of_far_fewer_words_than_vectors_is_refused(tmp_path: Path) -> None:
    """It belongs to another model: half of the vectors would never be used."""
    folder = tiny.bert(tmp_path / "start")
    model = transformers.BertModel.from_pretrained(folder)
    model.resize_token_embeddings(2 * len(tiny.WORDS) + 2)
    model.save_pretrained(folder)
    with pytest.raises(UserError, match=f"has {len(tiny.WORDS)} words and .* for {2 * len(tiny.WORDS) + 2}:"):
        load(folder)


def test_a_tokenizer_of_more_words_than_vectors_is_refused(tmp_path: Path) -> None:
    """It would fail at the first text with such a word; a padded embedding matrix is accepted."""
    folder = tiny.bert(tmp_path / "start")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["kubernetes"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=f"has {len(tiny.WORDS) + 1} words and .* for {len(tiny.WORDS)}:"):
        load(folder)
    long = transformers.BertModel.from_pretrained(tiny.bert(tmp_path / "long"))
    long.resize_token_embeddings(len(tiny.WORDS) + 60)
    long.save_pretrained(tmp_path / "long")
    assert load(tmp_path / "long").score("kubernetes", tiny.DOCUMENTS).isfinite().all()


def with_post_processor(folder: Path, processor: Any) -> HuggingFaceBackbone:
    """A decoder whose tokenizer has a given post-processor."""
    tiny.decoder(folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | {"post_processor": processor}))
    return HuggingFaceBackbone(str(folder))


def template(*pieces: str) -> dict[str, Any]:
    """A template of the tokenizers library, made of `A`, the text, and special tokens."""
    parts: list[Any] = [
        {"Sequence": {"id": "A", "type_id": 0}} if piece == "A" else {"SpecialToken": {"id": piece, "type_id": 0}}
        for piece in pieces
    ]
    special = {
        piece: {"id": piece, "ids": [tiny.WORDS.index(piece)], "tokens": [piece]} for piece in pieces if piece != "A"
    }
    pair = [*parts, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": parts, "pair": pair, "special_tokens": special}


BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    ("processor", "begin"),
    [
        (None, []),
        (BYTES, []),
        (template("A"), []),
        (template("[CLS]", "A"), [BEGIN]),
        (template("[CLS]", "A", "</s>"), [BEGIN]),
        ({"type": "Sequence", "processors": [BYTES, template("[CLS]", "A")]}, [BEGIN]),
        ({"type": "Sequence", "processors": [BYTES]}, []),
        ({"type": "BertProcessing", "cls": ["[CLS]", BEGIN], "sep": ["a", tiny.WORDS.index("a")]}, [BEGIN]),
    ],
    ids=["none", "bytes", "template", "Gemma", "ends already", "Llama 3", "Qwen", "BERT"],
)
def test_the_end_token_is_appended_exactly_once(processor: Any, begin: list[int], tmp_path: Path) -> None:
    """Whatever else the tokenizer adds, such as Gemma's <bos>; within the length, before and after saving."""
    backbone = with_post_processor(tmp_path / "start", processor)
    model = DenseBiEncoder(backbone, pooling="last", append_eos=True, query_length=6, document_length=6)
    text = [tiny.WORDS.index(word) for word in ("list", "a", "queue")]
    after = [tiny.WORDS.index("a")] if processor and processor["type"] == "BertProcessing" else []
    save(model.eval(), tmp_path / "saved")
    for each in (model, load(tmp_path / "saved")):
        assert isinstance(each, DenseBiEncoder)
        short, long = each.tokenize_queries(["list a queue", "list a queue " * 9])
        assert short == [*begin, *text, *after, END]
        assert (len(long), long[-1]) == (6, END)
        assert each.query_tower.tokenizer.num_special_tokens_to_add() == len(begin + after) + 1
    np.testing.assert_allclose(
        load(tmp_path / "saved").score(tiny.QUERIES, tiny.DOCUMENTS),
        model.score(tiny.QUERIES, tiny.DOCUMENTS),
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["T5", "RoBERTa", "MPNet", "Qwen3", "Gemma"])
def test_the_end_token_is_kept_by_the_tokenizers_own_class(name: str, tmp_path: Path) -> None:
    """Some classes of transformers set the post-processor when they are loaded, and a second end token is lost."""
    backbone = HuggingFaceBackbone(str(make_backbone(ARCHITECTURES[name], tmp_path / "start", "AutoModel")))
    model = DenseBiEncoder(backbone, pooling="last", append_eos=True, query_length=8)
    save(model.eval(), tmp_path / "saved")
    opened = load(tmp_path / "saved")
    assert isinstance(opened, DenseBiEncoder)
    ids = model.tokenize_queries(["list", "list all " * 9])
    assert [row.count(model.query_tower.tokenizer.eos_token_id) for row in ids] == [1, 1]
    assert opened.tokenize_queries(["list", "list all " * 9]) == ids


@pytest.mark.parametrize("family", [DenseBiEncoder, Mono, TokenLogit])
def test_a_panic_of_a_tokenizer_is_an_error_that_names_it(family: type[Any], tmp_path: Path) -> None:
    """The tokenizers library panics on two templates in sequence; the process must not end without a message."""
    panics = {"type": "Sequence", "processors": [template("[CLS]", "A", "a"), template("A", "</s>")]}
    backbone = with_post_processor(tmp_path / "start", panics)
    words = {"true_token": "yes", "false_token": "no"} if family is TokenLogit else {}
    with pytest.raises(UserError, match=r"the tokenizer of .*start fails and would end the process \(not yet impl"):
        family(backbone, **words).score("list", tiny.DOCUMENTS)


def test_a_tokenizer_without_an_unknown_token_is_named(tmp_path: Path) -> None:
    """It fails at the first text with an unknown word; other texts are encoded."""
    folder = tiny.bert(tmp_path / "start")
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text(encoding="utf8"))
    said["model"]["unk_token"] = "nowhere"
    path.write_text(json.dumps(said))
    model = DenseBiEncoder(HuggingFaceBackbone(str(folder)))
    with pytest.raises(UserError, match=r"the tokenizer of .*start fails .*Missing \[UNK\].*lacks an unknown token"):
        model.embed_queries(["😀"])
    assert len(model.embed_queries(["list"])) == 1


def test_a_folder_without_its_tokenizer_files_is_refused(tmp_path: Path) -> None:
    """The folder loads with its tokenizer files; without them it is refused, rather than given an empty tokenizer."""
    folder = tmp_path / "folder"
    model = DenseBiEncoder(HuggingFaceBackbone(str(tiny.bert(tmp_path / "base"))))
    save(model.eval(), folder)
    expected = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    torch.testing.assert_close(load(folder).score(tiny.QUERIES, tiny.DOCUMENTS), expected)
    for path in folder.glob("tokenizer*"):
        shutil.move(path, tmp_path)
    with pytest.raises(UserError, match="has no tokenizer"):
        load(folder)
