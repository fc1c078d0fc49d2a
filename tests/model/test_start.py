"""Where a training starts: with all that a checkpoint has learnt, or with a backbone and new layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from irexp import component, fit, new_model
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.loss.info_nce import InfoNCE
from irexp.loss.lce import LCE
from irexp.model.colbert import ColBERT
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.dense import DenseBiEncoder
from irexp.model.linear_mono import LinearMono
from irexp.model.load import load, save
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.model.splade import SPLADE
from irexp.model.start import start_from, start_new
from irexp.types import UserError
from tests import tiny
from tests.chains import Compose
from tests.families import MAKE, scores_of

Make = Callable[[dict[str, HuggingFaceBackbone]], Model]


def configured(family: type[Model], **settings: Any) -> partial[Model]:
    """A model as the configuration gives it to a stage."""
    return partial(family, **settings)


@pytest.fixture
def dense(tmp_path: Path, backbones: dict[str, HuggingFaceBackbone]) -> Path:
    """A checkpoint with a projection."""
    save(DenseBiEncoder(backbones["encoder"], projection_dim=6, pooling="cls"), tmp_path / "dense")
    return tmp_path / "dense"


@pytest.mark.parametrize("make", [*MAKE.values()], ids=[*MAKE])
def test_training_continues_with_all_that_a_checkpoint_has_learnt(
    make: Make, tmp_path: Path, backbones: dict[str, HuggingFaceBackbone]
) -> None:
    """Of every family, the scores before the first step are the checkpoint's, and training then changes them."""
    torch.manual_seed(3)
    model = make(backbones)
    save(model, tmp_path / "first")
    torch.manual_seed(4)
    started = start_from(str(tmp_path / "first"), configured(type(model), backbone=backbones["encoder"]))
    before = scores_of(model)
    torch.testing.assert_close(torch.tensor(scores_of(started)), torch.tensor(before), atol=1e-4, rtol=1e-4)
    texts = [(tiny.QUERIES[0], *tiny.DOCUMENTS), (tiny.QUERIES[1], *tiny.DOCUMENTS[::-1])]
    loss = LCE() if isinstance(model, CrossEncoder) else InfoNCE(in_batch=False)
    machine = component("machine", "cpu", threads=1, progress=False)
    more: dict[str, Any] = {"steps": 2, "learning_rate": 0.05, "batch_size": 2, "machine": machine}
    fit(started, loss, texts, folder=tmp_path / "second", **more)
    after = torch.tensor(scores_of(started))
    assert not torch.allclose(after, torch.tensor(before), atol=1e-3)
    torch.testing.assert_close(torch.tensor(scores_of(load(tmp_path / "second"))), after, atol=1e-4, rtol=1e-4)


def test_a_backbone_that_is_a_trained_model_is_warned_of(
    dense: Path, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only its transformer would be used; a bare transformer, and a model of nothing else, give no warning."""
    start_new(configured(DenseBiEncoder, backbone=backbones["encoder"]))
    save(SPLADE(backbones["encoder"]), tmp_path / "splade")
    start_new(configured(SPLADE, backbone=HuggingFaceBackbone(str(tmp_path / "splade"))))
    assert not caplog.records
    start_new(configured(DenseBiEncoder, backbone=HuggingFaceBackbone(str(dense)), projection_dim=6))
    save(ColBERT(backbones["encoder"], dim=4), tmp_path / "colbert")
    new_model("colbert", backbone=str(tmp_path / "colbert"), dim=4)
    assert [record.message for record in caplog.records] == [
        f"{folder} holds a trained model, of which only the transformer is used, not {part}. To train it further with "
        f"all its weights, set artifact.initial={folder}, or in Python fit(load('{folder}'), …)"
        for folder, part in ((dense, "2_Dense"), (tmp_path / "colbert", "1_Dense"))
    ]


@pytest.mark.parametrize("name", ["unicoil", "set_encoder", "dpr"])
def test_a_trained_model_that_is_not_a_backbone_is_refused_with_the_way_to_train_it(
    name: str, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """Its layers are in the transformer's file, or it has two transformers."""
    encoder = backbones["encoder"]
    model = DenseBiEncoder(encoder, query_backbone=encoder) if name == "dpr" else MAKE[name](backbones)
    save(model, tmp_path / "trained")
    made = configured(type(model), backbone=HuggingFaceBackbone(str(tmp_path / "trained")))
    with pytest.raises(UserError, match=r"To train it further with all its weights, set artifact\.initial=.*trained,"):
        start_new(made)


def test_what_contradicts_a_checkpoint_is_said(
    dense: Path, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The checkpoint's settings win; name and lengths are the configuration's; what agrees is not mentioned."""
    encoder = backbones["encoder"]
    same = start_from(
        str(dense), configured(DenseBiEncoder, backbone=encoder, name="x", query_length=9, projection_dim=6)
    )
    assert (same.name, same.query_length) == ("x", 9)
    agreeing = configured(DenseBiEncoder, backbone=encoder, pooling="cls", matryoshka_dims=[2, 4], query_prompt="")
    started = start_from(str(dense), agreeing)
    assert isinstance(started, DenseBiEncoder) and started.matryoshka_dims == [2, 4]
    assert not caplog.records
    differing = configured(DenseBiEncoder, backbone=encoder, query_backbone=encoder, pooling="mean", similarity="dot")
    start_from(str(dense), differing)
    assert caplog.records[0].message == (
        f"{dense}: its own settings are used, not those of the configuration: 1 encoder(s), not 2; pooling 'cls', not "
        f"model.pooling='mean'; similarity 'cosine', not model.similarity='dot'"
    )
    save(LinearMono(encoder), tmp_path / "linear")
    start_from(str(tmp_path / "linear"), configured(Mono, backbone=encoder))
    assert caplog.records[1].message.endswith("a LinearMono, not a Mono")


def test_a_checkpoint_of_another_kind_is_refused(dense: Path, backbones: dict[str, HuggingFaceBackbone]) -> None:
    """The configured engine could not search what it makes."""
    for family in (ColBERT, SPLADE, Mono):
        with pytest.raises(UserError, match=f"is a DenseBiEncoder, and model=None is a {family.__name__}"):
            start_from(str(dense), configured(family, backbone=backbones["encoder"]))


def test_adapters_of_several_rounds_open_by_themselves(
    compose: Compose, dense: Path, tmp_path: Path, collection: Path
) -> None:
    """Each folder of adapters names the checkpoint that its training started from, and scores as the merged one."""
    (collection / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td0\t1\nq2\td3\t1\n")
    overrides = ["dataset=local", f"dataset.path={collection}", "adapter=lora", "training.validate_every=null"]
    overrides += ["training.steps=2", "training.batch_size=2", "machine.progress=false", "machine.threads=1"]
    overrides += ["training.learning_rate=0.05", "schedule=constant"]
    stage = compose(*overrides).stage.fit
    start, scores = dense, [torch.tensor(scores_of(load(dense)))]
    for number in (1, 2):
        folder = tmp_path / f"round{number}"
        folder.mkdir()
        instantiate(stage, _convert_="object")(folder, None, start)
        start = folder / "adapter"
        merged, adapted = (torch.tensor(scores_of(load(place))) for place in (folder, start))
        torch.testing.assert_close(adapted, merged, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(merged, scores[-1], atol=1e-3)
        scores.append(merged)
