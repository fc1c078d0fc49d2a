"""Checkpoints: folders of other libraries, saving and loading of every family, and refused folders."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.coil import COIL
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.mono import Mono
from irexp.model.splade import SPLADE
from irexp.model.unicoil import UniCOIL
from irexp.model.xtr import XTR
from irexp.types import UserError
from tests import tiny
from tests.families import MAKE, scores_of
from tests.rounding import assert_equal_but_for_rounding

FIXTURES = Path(__file__).parents[1] / "data" / "checkpoint"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in FIXTURES.glob("*/scores.json")))
def test_a_checkpoint_of_another_library_scores_as_in_that_library(name: str) -> None:
    """The scores equal those that tests/data/make_checkpoints.py recorded in that library's own environment."""
    recorded = json.loads((FIXTURES / name / "scores.json").read_text(encoding="utf8"))
    model = load(FIXTURES / name)
    found = model.score(recorded["queries"], recorded["documents"]).numpy()
    assert_equal_but_for_rounding(found, recorded["scores"])
    assert np.ptp(recorded["scores"]) > 0.1


@pytest.mark.parametrize("name", MAKE)
def test_a_saved_model_loads_as_the_same_model(
    name: str, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """Class, name, lengths and scores survive saving, for every family and setting."""
    torch.manual_seed(5)
    model = MAKE[name](backbones).eval()
    if isinstance(model, SPLADE) and model.static_weights is not None:
        model.static_weights.data = torch.rand(model.embedding_dim)
    model.name = name
    save(model, tmp_path)
    opened = load(tmp_path)
    assert type(opened) is type(model)
    assert (opened.name, opened.query_length, opened.document_length) == (
        name,
        model.query_length,
        model.document_length,
    )
    assert_equal_but_for_rounding(scores_of(opened), scores_of(model))
    assert load(tmp_path, name="other", query_length=8).query_length == 8
    save(opened, tmp_path / "again")
    assert_equal_but_for_rounding(scores_of(load(tmp_path / "again")), scores_of(model))


@pytest.mark.parametrize("name", ["splade", "colbert", "mono", "dense_decoder"])
def test_the_saved_files_do_not_depend_on_the_texts_that_were_read_last(
    name: str, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """Queries and documents are cut to different lengths; a training that is resumed may read others last."""
    torch.manual_seed(0)
    model = MAKE[name](backbones)
    save(model, tmp_path / "before")
    model.score(tiny.QUERIES, tiny.DOCUMENTS)
    save(model, tmp_path / "after")
    before, after = ({path.name: path.read_bytes() for path in (tmp_path / f).glob("*.*")} for f in ("before", "after"))
    assert "tokenizer.json" in before
    assert [file for file in before if before[file] != after[file]] == []


def test_a_saved_xtr_keeps_k_train(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """k_train affects training only, so that no score would show its loss."""
    save(MAKE["xtr"](backbones), tmp_path)
    opened = load(tmp_path)
    assert isinstance(opened, XTR)
    assert opened.k_train == 7


def test_castorinis_unicoil_loads(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """The prefix `coil_encoder.` is removed, as in castorini/unicoil-noexp-msmarco-passage; vocab.txt is saved."""
    torch.manual_seed(5)
    model = UniCOIL(backbones["encoder"], keep_sep=True).eval()
    save(model, tmp_path)
    assert (tmp_path / "vocab.txt").read_text(encoding="utf8").split() == tiny.WORDS
    state = {f"coil_encoder.{name}": value for name, value in load_file(tmp_path / "model.safetensors").items()}
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "irexp.json").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    opened = load(tmp_path)
    assert isinstance(opened, UniCOIL)
    assert_equal_but_for_rounding(scores_of(opened), scores_of(model))


def test_a_folder_of_coils_original_code_loads(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """It is recognised by model.pt; the unsupported layer norm of a later variant is refused by name."""
    torch.manual_seed(5)
    model = MAKE["coil"](backbones).eval()
    save(model, tmp_path)
    (tmp_path / "irexp.json").unlink()
    opened = load(tmp_path)
    assert isinstance(opened, COIL)
    assert_equal_but_for_rounding(scores_of(opened), scores_of(model))
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save(state | {"ln_tok.weight": torch.ones(4)}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"unexpected weights \['ln_tok.weight'\]"):
        load(tmp_path)


def test_an_unrecognised_folder_is_refused_with_the_files_that_were_looked_for(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Refused: a folder without checkpoint files, one without the configured model's layers, an unknown family."""
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match=r"is not a checkpoint: it has none of irexp.json.*; it has notes.txt"):
        load(tmp_path)
    with pytest.raises(UserError, match="is a bare BertForMaskedLM without the parts of a ColBERT"):
        load(folders["encoder"], like=partial(ColBERT))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"without the layer that model\.projection_dim asks for"):
        load(folders["encoder"], like=partial(DenseBiEncoder, projection_dim=4))  # type: ignore[arg-type]
    (tmp_path / "irexp.json").write_text('{"family": "of the future"}')
    with pytest.raises(UserError, match="the family 'of the future' is not known"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["unicoil", "colbert", "set_encoder", "mono"])
def test_a_missing_weight_is_named(name: str, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """A missing weight is an error, rather than a randomly drawn layer."""
    save(MAKE[name](backbones), tmp_path)
    lost = {"unicoil": "tok_proj.bias", "colbert": "linear.weight", "set_encoder": "linear.weight"}
    path = tmp_path / ("1_Dense/model.safetensors" if name == "colbert" else "model.safetensors")
    state = load_file(path)
    state.pop(lost.get(name, "classifier.weight"))
    save_file(state, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"missing weights|lacks 1 weights"):
        load(tmp_path)


def test_a_token_that_the_vocabulary_lacks_is_refused(tmp_path: Path) -> None:
    """Its vector would be random, as for an early commit of webis/set-encoder-base, which names another token."""
    shutil.copytree(FIXTURES / "set_encoder_extra_token", tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*.json"):
        path.write_text(path.read_text(encoding="utf8").replace("[INT]", "[DOC]"), encoding="utf8")
    with pytest.raises(UserError, match=r"the vocabulary lacks '\[INT\]', which the model needs"):
        load(tmp_path)


def test_unexpected_weights_are_refused_by_name(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An additional layer means another kind of model, so it is refused; a known unused head is only logged."""
    with caplog.at_level("INFO"):
        assert isinstance(load(folders["encoder"]), DenseBiEncoder)
    assert "unused heads: cls.predictions.bias, cls.predictions.transform" in caplog.text
    shutil.copytree(folders["encoder"], tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / "model.safetensors")
    layer = "bert.encoder.layer.7.attention.self.query.weight"
    more = {"linear.weight": torch.ones(8, 16), layer: torch.ones(16, 16)}
    save_file(state | more, tmp_path / "model.safetensors", {"format": "pt"})
    for like in (None, partial(SPLADE)):
        with pytest.raises(UserError, match=r"unexpected weights encoder\.layer\.7\.\S+, linear\.weight, which belong"):
            load(tmp_path, like=like)  # type: ignore[arg-type]


def test_a_stanford_folder_without_metadata_and_architecture_is_refused(tmp_path: Path) -> None:
    """It would load as a dense model without its linear layer; the error names that layer."""
    shutil.copytree(FIXTURES / "stanford", tmp_path, dirs_exist_ok=True)
    (tmp_path / "artifact.metadata").unlink()
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    with pytest.raises(UserError, match=r"unexpected weights linear\.weight"):
        load(tmp_path)


def test_a_classifier_without_architecture_loads_as_a_cross_encoder(tmp_path: Path) -> None:
    """It is recognised by its classifier's weights."""
    tiny.bert(tmp_path, "BertForSequenceClassification", num_labels=1)
    expected = scores_of(load(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": None}))
    assert isinstance(load(tmp_path), Mono)
    assert scores_of(load(tmp_path)) == expected


def test_damaged_weights_are_named(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """A truncated weights file, of the encoder or of another layer, is an error that names the file."""
    for name, file in (("colbert", "1_Dense/model.safetensors"), ("unicoil", "model.safetensors")):
        save(MAKE[name](backbones), tmp_path / name)
        path = tmp_path / name / file
        path.write_bytes(path.read_bytes()[:50])
        with pytest.raises(UserError, match=r"\.safetensors is not a safetensors file|cannot be read as a AutoModel"):
            load(tmp_path / name)


def test_a_pickle_that_runs_code_is_refused(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """A torch file with anything but tensors is refused before its code runs."""
    save(MAKE["coil"](backbones), tmp_path)

    class Harm:
        """Writes a file when it is unpickled."""

        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"tok_proj.weight": Harm()}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="holds more than tensors, which is refused, since it could run code"):
        load(tmp_path)
    assert not (tmp_path / "harm").exists()
