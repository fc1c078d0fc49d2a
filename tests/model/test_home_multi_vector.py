"""Settings of MultiVectorEncoder and PyLate (prompts, markers, lengths, masks) are applied, or refused by name."""

from __future__ import annotations

import json
import shutil
import string
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.types import UserError
from tests import tiny
from tests.families import MAKE, scores_of
from tests.rounding import assert_equal_but_for_rounding

FIXTURES = Path(__file__).parents[1] / "data" / "checkpoint"

DOCUMENTS = [*tiny.DOCUMENTS, "list buckets, and delete the queue " * 50 + "stop an instance"]


def home_scores(folder: Path) -> list[list[float]]:
    """The scores of the texts in sentence-transformers."""
    theirs = MultiVectorEncoder(str(folder), device="cpu")
    documents = theirs.encode_document(DOCUMENTS)
    return [[float((q @ d.T).amax(dim=1).sum()) for d in documents] for q in theirs.encode_query(tiny.QUERIES)]


def modules(folder: Path, **settings: Any) -> list[Any]:
    """A transformer with a projection of its token vectors, and no mask."""
    torch.manual_seed(3)
    tokens: dict[str, Any] = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    dense = Dense(16, 8, bias=False, activation_function=torch.nn.Identity(), **tokens)
    return [Transformer(str(folder), **settings), dense, Normalize(**tokens)]


def assert_equal_at_home(folder: Path) -> ColBERT:
    """A folder of sentence-transformers loads with equal scores, and keeps them when irexp saves it again."""
    expected = home_scores(folder)
    ours = load(folder)
    assert_equal_but_for_rounding(ours.score(tiny.QUERIES, DOCUMENTS), expected)
    save(ours, folder / "again")
    assert_equal_but_for_rounding(home_scores(folder / "again"), expected)
    assert_equal_but_for_rounding(load(folder / "again").score(tiny.QUERIES, DOCUMENTS), expected)
    assert isinstance(ours, ColBERT)
    return ours


def test_without_a_mask_no_word_is_skipped_and_no_marker_is_added(tmp_path: Path) -> None:
    """PyLate's defaults must not apply to the layout of sentence-transformers."""
    folder = tiny.long_bert(tmp_path / "start")
    MultiVectorEncoder(modules=modules(folder), device="cpu").save(str(tmp_path / "saved"))
    ours = assert_equal_at_home(tmp_path / "saved")
    assert (ours.query_marker, ours.query_expansion, ours.skipped, ours.document_length) == (None, False, [], 512)


def test_prompts_of_a_multi_vector_encoder_are_tokenized_as_text(tmp_path: Path) -> None:
    """They are not added to the vocabulary as PyLate's markers are, which would change every score."""
    start = modules(tiny.long_bert(tmp_path / "start"), query_length=8, document_length=20)
    all_modules = [*start[:2], MultiVectorMask(skiplist_words=[",", "the"]), start[2]]
    prompts = {"query": "list all ", "document": "delete the "}
    MultiVectorEncoder(modules=all_modules, device="cpu", prompts=prompts).save(str(tmp_path / "saved"))
    ours = assert_equal_at_home(tmp_path / "saved")
    assert (ours.query_prompt, ours.query_length, ours.document_length) == ("list all ", 8, 20)


def test_query_expansion_to_a_fixed_length_is_read_and_others_are_refused(tmp_path: Path) -> None:
    """Expansion with [MASK] to a fixed length gives equal scores; another strategy or token is refused by name."""
    folder = tiny.long_bert(tmp_path / "start")
    expansion: dict[str, Any] = {"strategy": "fixed", "length": 12, "attend": True}
    start = modules(folder, query_expansion=expansion)
    all_modules = [*start[:2], MultiVectorMask(), start[2]]
    MultiVectorEncoder(modules=all_modules, device="cpu").save(str(tmp_path / "saved"))
    assert assert_equal_at_home(tmp_path / "saved").attend_to_expansion
    for change in ({"strategy": "min"}, {"token": "the"}):
        path = tmp_path / "saved" / "sentence_bert_config.json"
        said = json.loads(path.read_text(encoding="utf8"))
        path.write_text(json.dumps(said | {"query_expansion": expansion | change}))
        with pytest.raises(UserError, match=r"the query expansion .* is not supported"):
            load(tmp_path / "saved")


def test_each_skipped_word_that_the_vocabulary_lacks_skips_unknown_words(tmp_path: Path) -> None:
    """As in PyLate 1.6, also where its default list is meant; MultiVectorEncoder ignores such words."""
    texts, scores = ["\u65e5\u672c list, buckets.", "stop \u65e5"], {}
    for name, words in {"none": [], "lacking": ["nowhere"], "unknown": ["[UNK]"], "default": None}.items():
        shutil.copytree(FIXTURES / "pylate", tmp_path / name)
        path = tmp_path / name / "config_sentence_transformers.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | {"skiplist_words": words}))
        if name == "default":
            for file in ("tokenizer.json", "vocab.txt"):
                path = tmp_path / name / file
                path.write_text(path.read_text(encoding="utf8").replace("~", "~~~"), encoding="utf8")
        opened: Any = load(tmp_path / name)
        scores[name] = opened.score("list buckets", texts)
        assert ("[UNK]" in opened.skipped) == (name != "none")
        save(opened, tmp_path / name / "again")
        assert_equal_but_for_rounding(load(tmp_path / name / "again").score("list buckets", texts), scores[name])
    assert_equal_but_for_rounding(scores["lacking"], scores["unknown"])
    assert (scores["none"] - scores["lacking"]).abs().min() > 0.01


def test_skipped_words_that_the_vocabulary_lacks_are_not_saved(
    backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """New models skip only signs that the vocabulary has, while PyLate would skip [UNK] for the others."""
    model = ColBERT(backbones["encoder"], dim=4)
    model.skip(["list", "nowhere"])
    save(model, tmp_path)
    said = json.loads((tmp_path / "config_sentence_transformers.json").read_text(encoding="utf8"))
    assert said["skiplist_words"] == load(tmp_path).skipped == ["list"]


def test_a_sign_that_stanfords_vocabulary_lacks_skips_unknown_words(tmp_path: Path) -> None:
    """Stanford's ColBERT skips the first token of each sign, as the tokenizer encodes it."""
    shutil.copytree(FIXTURES / "stanford", tmp_path / "saved")
    opened: Any = load(tmp_path / "saved")
    assert sorted(opened.skipped) == sorted(string.punctuation)
    for file in ("tokenizer.json", "vocab.txt"):
        path = tmp_path / "saved" / file
        path.write_text(path.read_text(encoding="utf8").replace("~", "~~~"), encoding="utf8")
    opened = load(tmp_path / "saved")
    assert sorted(opened.skipped) == sorted([*string.punctuation.replace("~", ""), "[UNK]"])


def test_prompts_that_pylate_adds_only_if_told_to_are_warned_of(
    backbones: dict[str, HuggingFaceBackbone], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On saving, and on loading a folder that PyLate saved; without prompts there is no warning."""
    warning = "puts the prompts 'list all ' and '' in front of queries and documents, PyLate only with prompt_name="
    save(ColBERT(backbones["encoder"], dim=4), tmp_path / "none")
    load(FIXTURES / "pylate")
    assert "PyLate only with" not in caplog.text
    save(ColBERT(backbones["encoder"], dim=4, query_prompt="list all "), tmp_path / "prompt")
    assert caplog.text.count(warning) == 1
    load(tmp_path / "prompt")
    assert caplog.text.count(warning) == 1
    (tmp_path / "prompt" / "irexp.json").unlink()
    load(tmp_path / "prompt")
    assert caplog.text.count(warning) == 2


@pytest.mark.parametrize("name", ["pylate", "stanford"])
def test_a_marker_that_the_vocabulary_lacks_is_refused(name: str, tmp_path: Path) -> None:
    """Its vector would be random, and differ each time the model is loaded."""
    shutil.copytree(FIXTURES / name, tmp_path / "saved")
    path = tmp_path / "saved" / ("artifact.metadata" if name == "stanford" else "config_sentence_transformers.json")
    key = "query_token_id" if name == "stanford" else "query_prefix"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | {key: "[QUERY] "}))
    with pytest.raises(UserError, match=r"the vocabulary lacks '\[QUERY\] ', which the model needs"):
        load(tmp_path / "saved")


def test_a_model_without_markers_scores_the_same_in_sentence_transformers(
    backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """XTR and a ColBERT with prompts save an empty prefix, since null would be PyLate's default marker."""
    torch.manual_seed(5)
    colbert = ColBERT(
        backbones["encoder"],
        dim=4,
        query_marker=None,
        document_marker=None,
        query_prompt="list all ",
        document_prompt="delete the ",
        query_length=12,
    )
    for name, model in (("xtr", MAKE["xtr"](backbones)), ("colbert", colbert)):
        save(model.eval(), tmp_path / name)
        expected = model.score(tiny.QUERIES, DOCUMENTS)
        assert_equal_but_for_rounding(home_scores(tmp_path / name), expected)
        assert_equal_but_for_rounding(load(tmp_path / name).score(tiny.QUERIES, DOCUMENTS), expected)
        assert json.loads((tmp_path / name / "config_sentence_transformers.json").read_text())["query_prefix"] == ""


def test_a_stanford_folder_without_metadata_has_stanfords_defaults(tmp_path: Path) -> None:
    """It is recognised by its architecture, and scores as in sentence-transformers."""
    shutil.copytree(FIXTURES / "stanford", tmp_path / "saved")
    (tmp_path / "saved" / "artifact.metadata").unlink()
    ours = load(tmp_path / "saved")
    theirs = MultiVectorEncoder(str(tmp_path / "saved"), device="cpu")
    documents = theirs.encode_document(tiny.DOCUMENTS)
    expected = [[float((q @ d.T).amax(1).sum()) for d in documents] for q in theirs.encode_query(tiny.QUERIES)]
    assert_equal_but_for_rounding(scores_of(ours), expected)


def test_a_length_above_the_transformers_maximum_is_capped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """PyLate's folders may name more tokens than the tokenizer or the positions allow; the scores are as at home."""
    shutil.copytree(FIXTURES / "pylate", tmp_path / "pylate")
    path = tmp_path / "pylate" / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | {"document_length": 300}))
    ours = load(tmp_path / "pylate")
    assert ours.document_length == 64
    assert "pylate: document_length=300 is more than its transformer reads: 64 is used" in caplog.text
    recorded = json.loads((FIXTURES / "pylate" / "scores.json").read_text(encoding="utf8"))
    assert_equal_but_for_rounding(ours.score(recorded["queries"], recorded["documents"]), recorded["scores"])


@pytest.mark.parametrize("expansion", [True, False])
def test_padding_on_the_left_is_refused_where_markers_or_masks_would_move(expansion: bool, tmp_path: Path) -> None:
    """PyLate inserts the marker after the first token of the padded text, so that its place depends on the batch."""
    shutil.copytree(FIXTURES / "pylate", tmp_path / "pylate")
    for name, value in (
        ("tokenizer_config.json", {"padding_side": "left"}),
        ("config_sentence_transformers.json", {"do_query_expansion": expansion}),
    ):
        path = tmp_path / "pylate" / name
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | value))
    with pytest.raises(
        UserError, match=r"pylate: padding_side=left in its tokenizer_config\.json is not supported in a"
    ):
        load(tmp_path / "pylate")


def test_the_multi_vector_part_of_bge_m3_is_refused(tmp_path: Path) -> None:
    """Its folder is a dense model, whose layer for token vectors is in a file that no list of modules names."""
    dense = DenseBiEncoder(HuggingFaceBackbone(str(tiny.bert(tmp_path / "start"))), pooling="cls")
    save(dense, tmp_path / "bge")
    (tmp_path / "bge" / "irexp.json").unlink()
    torch.save({"weight": torch.zeros(16, 16)}, tmp_path / "bge" / "colbert_linear.pt")
    assert isinstance(load(tmp_path / "bge"), DenseBiEncoder)
    like: Any = partial(ColBERT)
    with pytest.raises(
        UserError, match=r"colbert_linear\.pt, BGE-M3's layer for a ColBERT, is not supported; the folder"
    ):
        load(tmp_path / "bge", like=like)
