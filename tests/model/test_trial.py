"""The check before training that a model can be saved and loaded again; the check changes nothing."""

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
from tests.model.test_lora import FAMILIES, recipe


@pytest.mark.parametrize("largest", [LARGEST, 0], ids=["whole", "one layer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_and_is_left_unchanged(family: str, largest: int, tmp_path: Path) -> None:
    """Weights, mode, random state and folder are unchanged, whether the whole model or one layer is checked."""
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
def test_a_half_precision_backbone_passes(family: str, tmp_path: Path) -> None:
    """It is loaded in fp32: scores that differ by rounding only must not fail the check."""
    call = recipe(family, tmp_path / "start")
    call.keywords["backbone"].dtype = "bfloat16"
    model = call()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.bfloat16 in {value.dtype for value in before.values()}
    (tmp_path / "run").mkdir()
    check_saving(model, call, tmp_path / "run")
    assert [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])] == []
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("largest", [LARGEST, 0], ids=["whole", "one layer"])
def test_unicoil_on_a_t5_is_refused_by_name(largest: int, tmp_path: Path) -> None:
    """All weights would be in one file, which cannot be written for T5's shared embeddings."""
    call: Any = partial(UniCOIL, backbone=HuggingFaceBackbone(str(tiny.t5(tmp_path / "t5"))))
    with pytest.raises(UserError, match="model=unicoil: a UniCOIL on a T5EncoderModel cannot be saved and loaded"):
        check_saving(call(), call, tmp_path, largest=largest)
    assert not (tmp_path / ".trial").exists()


class Forgets(MVR):
    """A family that does not store its settings as attributes of the same names."""

    def __init__(self, backbone: Backbone, *, views: int = 2, length: int | None = None, name: str = "forgets") -> None:
        """Pass `views` on as `viewers`, and `length` as both lengths."""
        super().__init__(backbone, viewers=views, query_length=length, document_length=length, name=name)


def test_a_setting_without_an_attribute_is_named(backbones: dict[str, HuggingFaceBackbone], tmp_path: Path) -> None:
    """It would be missing from every checkpoint."""
    call: Any = partial(Forgets, backbone=backbones["encoder"])
    with pytest.raises(UserError, match="its constructor takes views, length, but there is no attribute of that name"):
        check_saving(call(), call, tmp_path)


def test_an_unsaved_weight_is_noticed_even_if_it_starts_as_a_constant(
    backbones: dict[str, HuggingFaceBackbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh model's static weights are all 1, so that without noise a lost weight would not change a score."""
    call: Any = partial(SPLADE, backbone=backbones["encoder"], query_encoding="static")

    def forgets(family: type[SPLADE], folder: Path, wanted: Wanted) -> SPLADE:
        model = load(family, folder, wanted)
        assert model.static_weights is not None
        model.static_weights.data.fill_(1.0)
        return model

    load = sparse_encoder.load
    monkeypatch.setattr(sparse_encoder, "load", forgets)
    with pytest.raises(UserError, match=r"cannot be saved and loaded again, .* its scores were \["):
        check_saving(call(), call, tmp_path)
