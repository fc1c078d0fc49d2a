"""Whether a model can be saved and opened is known before it is trained, and finding out changes nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from irexp.backbone.backbone import Backbone
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint import sparse_encoder
from irexp.model.checkpoint.files import Wanted
from irexp.model.mvr import MVR
from irexp.model.splade import SPLADE
from irexp.model.trial import LARGEST, check_saving
from irexp.model.unicoil import UniCOIL
from irexp.types import UserError
from tests import tiny
from tests.backbone.test_architectures import BART, made
from tests.model.test_lora import FAMILIES, recipe


@pytest.mark.parametrize("largest", [LARGEST, 0], ids=["whole", "one layer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_and_is_left_as_it_was(family: str, largest: int, tmp_path: Path) -> None:
    """Weights, mode and random numbers, whether all of it was tried or one layer; the folder is empty again."""
    call = recipe(family, tmp_path / "start")
    torch.manual_seed(3)
    model = call().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    (tmp_path / "run").mkdir()
    check_saving(model, call, tmp_path / "run", largest=largest)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])] == []
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("family", ["repllama", "splade", "decoder"])
def test_a_backbone_of_half_precision_passes(family: str, tmp_path: Path) -> None:
    """It is opened in fp32, whose scores are other ones by the rounding alone."""
    call = recipe(family, tmp_path / "start")
    call.keywords["backbone"].dtype = "bfloat16"
    check_saving(call(), call, tmp_path)


@pytest.mark.parametrize("largest", [LARGEST, 0], ids=["whole", "one layer"])
@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_unicoil_on_an_encoder_decoder_is_refused_by_name(kind: str, largest: int, tmp_path: Path) -> None:
    """Its layout has one file for all weights: BART's would never open again, T5's cannot be written."""
    backbone: Backbone = HuggingFaceBackbone(str(tmp_path / "t5"))
    if kind == "bart":
        backbone = made(tmp_path / "bart", "bart", "BartForConditionalGeneration", **BART)
    else:
        tiny.t5(tmp_path / "t5")
    call: Any = partial(UniCOIL, backbone=backbone)
    encoder = {"bart": "BartEncoder", "t5": "T5EncoderModel"}[kind]
    with pytest.raises(UserError, match=f"model=unicoil: a UniCOIL on a {encoder} cannot be saved and opened again"):
        check_saving(call(), call, tmp_path, largest=largest)
    assert not (tmp_path / ".trial").exists()


class Forgets(MVR):
    """A family that does not keep a setting."""

    def __init__(self, backbone: Backbone, *, views: int = 2, name: str = "forgets", **lengths: Any) -> None:
        """Views are viewers."""
        super().__init__(backbone, viewers=views, name=name)


def test_a_setting_that_is_not_kept_is_named(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """It would be lost in every checkpoint."""
    call: Any = partial(Forgets, backbone=backbones["encoder"])
    with pytest.raises(UserError, match="its constructor takes views, lengths and keeps no attribute of that name"):
        check_saving(call(), call, tmp_path)


def test_a_weight_that_begins_as_a_constant_and_is_not_saved_is_seen(
    backbones: dict[str, HuggingFaceBackbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Static weights of one each are those of a fresh model: lost, they would be equal until they are trained."""
    call: Any = partial(SPLADE, backbone=backbones["encoder"], query_encoding="static")

    def forgets(family: type[SPLADE], folder: Path, wanted: Wanted) -> SPLADE:
        model = load(family, folder, wanted)
        assert model.static_weights is not None
        model.static_weights.data.fill_(1.0)
        return model

    load = sparse_encoder.load
    monkeypatch.setattr(sparse_encoder, "load", forgets)
    with pytest.raises(UserError, match=r"cannot be saved and opened again, .* it scores \["):
        check_saving(call(), call, tmp_path)
