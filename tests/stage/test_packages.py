"""Without the packages of an extra: one line that says what to install, before anything is made."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest

from irexp.config.installation import install_command
from irexp.index import seismic
from irexp.training.tracked_job import TrackedJob
from irexp.training.tracking import tensorboard_logger
from irexp.types import UserError
from tests.chains import STAGES, Compose, run, settings

#: A packaged backbone that is not installed.
MISSING = "backbone.package=no-such-package"

#: As it is where it is not replaced by a skip, see tests/conftest.py.
SEISMIC_PACKAGE = seismic._package


def without(monkeypatch: pytest.MonkeyPatch, *distributions: str) -> None:
    """As if these were not installed."""
    version = importlib.metadata.version

    def found(name: str) -> str:
        if name in distributions:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", found)


def refused(compose: Compose, overrides: list[str], stages: list[str]) -> str:
    """The one line that running stages ends with, of which none has made anything."""
    with pytest.raises(UserError) as error:
        run(compose, overrides, stages)
    (root,) = (Path(o.partition("=")[2]) for o in overrides if o.startswith("paths.artifacts="))
    assert not list(root.rglob("manifest.json"))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_engine_is_looked_for_before_the_training(
    compose: Compose, tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package is used by the index stage, after the model was fine-tuned and all documents were encoded."""
    monkeypatch.setattr(seismic, "_package", SEISMIC_PACKAGE)
    monkeypatch.setitem(sys.modules, "seismic", None)
    text = refused(compose, settings(tmp_path, collection, "model=splade", "index=seismic"), STAGES)
    assert install_command("seismic") in text and "Python 3.11 on Linux x86_64" in text


def _add_training_queries(collection: Path) -> None:
    """Training and development queries, which are looked into before settings."""
    for split in ("train", "dev"):
        shutil.copy(collection / "qrels" / "test.tsv", collection / "qrels" / f"{split}.tsv")


def test_settings_of_engine_and_loss_are_checked_before_the_training(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """All that are refused are named at once; before, an engine was only made after hours of training."""
    _add_training_queries(collection)
    wrong = ["index.search.terms=0", "loss.temperature=0"]
    overrides = settings(tmp_path, collection, "model=splade", "training.steps=2", *wrong)
    with pytest.raises(UserError) as error:
        run(compose, overrides, STAGES)
    assert str(error.value).splitlines() == [
        "loss.temperature=0: it divides scores and must be above 0",
        "index.search.terms=0: it must be at least 1",
    ]
    assert not list(tmp_path.rglob("manifest.json"))


def test_milvus_is_looked_for_before_the_training(
    compose: Compose, tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is the engine of another engine."""
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    text = refused(compose, settings(tmp_path, collection, "model=colbert", "index=milvus_tokens"), STAGES)
    assert install_command("milvus") in text


def test_onnxruntime_is_looked_for_before_the_training(
    compose: Compose, tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used by the encode stage, after the model was fine-tuned."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    text = refused(compose, settings(tmp_path, collection, "encoding=int8", "machine.accelerator=cpu"), STAGES)
    assert text.startswith("encoding.precision=int8 needs onnxruntime") and install_command("onnx") in text


@pytest.mark.parametrize("stage", ["re_rank", "score"])
def test_a_re_ranker_in_int8_is_refused_before_the_training(
    compose: Compose, tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """One that has no copy in int8, and any without the packages."""
    _add_training_queries(collection)
    typed = ["re_rank=bm25", "training.steps=2", f"{stage}.precision=int8", "machine.accelerator=cpu"]
    overrides = settings(tmp_path, collection, "model=set_encoder", *typed)
    text = refused(compose, overrides, ["fit", stage])
    assert text.startswith(f"{stage}.precision=int8: a SetEncoder cannot be computed in int8")
    assert text.endswith(f"set {stage}.precision=bfloat16 or float32")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    text = refused(compose, settings(tmp_path, collection, "model=mono", *typed), ["fit", stage])
    assert text.startswith(f"{stage}.precision=int8 needs onnxruntime") and install_command("onnx") in text


@pytest.mark.parametrize("model", ["sbert", "mono"])
def test_the_backbone_is_looked_for_before_the_candidates(
    compose: Compose, tmp_path: Path, collection: Path, model: str
) -> None:
    """A cross-encoder's candidates are searched first, which can take long."""
    overrides = settings(tmp_path, collection, f"model={model}", "backbone=minilm", MISSING)
    assert "pip install no-such-package==0.1.0" in refused(compose, overrides, [*STAGES, "re_rank"])


def test_a_checkpoint_needs_no_backbone(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """One from elsewhere is encoded with, whatever backbone the configuration names."""
    checkpoint = run(compose, settings(tmp_path, collection), ["fit"])["fit"].path
    given = [f"artifact.checkpoint={checkpoint}", MISSING]
    assert run(compose, settings(tmp_path, collection, *given), STAGES)["evaluate"].status == "made"


def test_the_embedded_collection_is_looked_for_first(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs its backbone, too."""
    without(monkeypatch, "botocore")
    overrides = ["model=bm25", f"paths.artifacts={tmp_path / 'artifacts'}"]
    text = refused(compose, overrides, ["index", "search", "evaluate"])
    assert "botocore, which is not installed" in text and install_command("embedded") in text


def test_tensorboard_is_looked_for_when_the_job_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lightning's own message is a ModuleNotFoundError, or none where tensorboardX is installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, package=None: None if name == "tensorboard" else find_spec(name)
    )
    with pytest.raises(UserError, match=re.escape(install_command("tensorboard"))):
        tensorboard_logger(tmp_path, TrackedJob("id", "mine", "all"))
