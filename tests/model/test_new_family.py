"""A new family is two files, its module and its option: it is trained, saved and loaded without any other change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file

import irexp.model
from irexp import load, save
from irexp.artifact.experiment import Experiment
from irexp.backbone.backbone import Backbone
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.config.check import check
from irexp.config.installation import CONF
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from irexp.model.checkpoint import native
from irexp.model.checkpoint.layout import Layout
from irexp.model.dense import DenseBiEncoder
from irexp.model.family import find_family
from irexp.stage.card import model_card
from irexp.types import Embeddings, Tokens, UserError
from tests import tiny
from tests.trainings import SMALL, TOYS, write_toys

MODULE = '''
"""Two linear layers over [CLS], one per side, and a learned temperature."""

from __future__ import annotations

import torch
from torch import nn

from irexp.artifact.experiment import Experiment
from irexp.backbone.backbone import Backbone
from irexp.model.shared import SharedBiEncoder
from irexp.types import Embeddings, Tokens


class TwoHeads(SharedBiEncoder):
    """A head for each side."""

    representation = "dense"

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "two_heads",
        size: int = 8,
        query_length: int | None = None,
        document_length: int | None = None,
    ) -> None:
        super().__init__(
            backbone, backbone.load_encoder(), name=name, query_length=query_length, document_length=document_length
        )
        self.size = self.embedding_dim = size
        self.query_head = nn.Linear(self.encoder.config.hidden_size, size)
        self.document_head = nn.Linear(self.encoder.config.hidden_size, size)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def encode_queries(self, tokens: Tokens) -> Embeddings:
        return Embeddings(self.query_head(self.token_vectors(tokens)[:, 0]) * self.log_scale.exp())

    def encode_documents(self, tokens: Tokens) -> Embeddings:
        return Embeddings(self.document_head(self.token_vectors(tokens)[:, 0]))
'''

OPTION = """
# @package _global_
# Two heads.
model:
  _target_: irexp.model.two_heads.TwoHeads
  _partial_: true
  name: two_heads
  backbone: ${backbone}
  size: 6
  query_length: ${dataset.query_length}
  document_length: ${dataset.document_length}
"""

#: Loads folders and scores texts, in a process that knows only the path of the family's module.
OPENS = """
import json, sys
import irexp.model
irexp.model.__path__.append(sys.argv[1])
from irexp import load
models = [load(place) for place in sys.argv[4:]]
texts = sys.argv[2], json.loads(sys.argv[3])
print(json.dumps([[type(model).__name__, model.score(*texts).tolist()] for model in models]))
"""


@pytest.fixture
def two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in irexp.model, and an option in conf/model."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "two_heads.py").write_text(MODULE)
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / "model" / "two_heads.yaml").write_text(OPTION)
    monkeypatch.setattr(irexp.model, "__path__", [*irexp.model.__path__, str(tmp_path / "model")])
    monkeypatch.delitem(sys.modules, "irexp.model.two_heads", raising=False)
    monkeypatch.delattr(irexp.model, "two_heads", raising=False)  # both keep the previous test's import
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "adapter"), [("encoder", "lora"), ("t5", "none")])
def test_a_new_family_is_trained_saved_and_opened(
    kind: str, adapter: str, two_files: Path, folders: dict[str, Path]
) -> None:
    """stage=fit trains it; another process loads the checkpoint and the adapters; its card names no other library."""
    register_resolvers()
    register_schema()
    data = write_toys(two_files / "toys")
    overrides = ["model=two_heads", "backbone=hugging_face", f"backbone.name_or_path={folders[kind]}", *SMALL]
    overrides += ["dataset=local", f"dataset.path={data}", "training.batch_size=4", "training.validate_every=null"]
    overrides += [f"adapter={adapter}", "training.learning_rate=0.01", "dataset.query_length=8"]
    with initialize_config_dir(str(two_files / "conf"), version_base="1.3"):
        config = hydra_compose("config", overrides=[*overrides, "dataset.document_length=16"])
    check(config)
    folder = two_files / "run"
    folder.mkdir()
    instantiate(config.stage.fit, _convert_="object")(folder)
    said = json.loads((folder / "irexp.json").read_text(encoding="utf8"))
    assert said == {"family": "two_heads", "name": "two_heads", "query_length": 8, "document_length": 16, "size": 6}
    rest = load_file(folder / "rest.safetensors")
    assert sorted(rest) == sorted(
        ["log_scale", *(f"{s}_head.{w}" for s in ("query", "document") for w in ("weight", "bias"))]
    )
    assert abs(rest["log_scale"].item()) > 1e-3
    expected = load(folder).score(TOYS[0], TOYS)
    if adapter == "lora":
        call = [sys.executable, "-c", OPENS, str(two_files / "model"), TOYS[0], json.dumps(TOYS)]
        call += [str(folder), str(folder / "adapter")]
        opened = json.loads(subprocess.run(call, capture_output=True, check=True, text=True).stdout)
        assert [name for name, _ in opened] == ["TwoHeads"] * 2
        for _, scores in opened:
            torch.testing.assert_close(torch.tensor(scores), expected, atol=1e-4, rtol=1e-4)
    card = model_card(Experiment((), config).values, repository="me/model", identity="checkpoint/x", validation={})
    assert 'load("me/model")' in card and "# or in" not in card


class Divided(DenseBiEncoder):
    """A family of another package, with two encoders and a setting, in irexp's own layout."""

    layout: ClassVar[Layout] = native

    def __init__(
        self,
        backbone: Backbone,
        *,
        query_backbone: Backbone,
        by: float = 2.0,
        name: str = "divided",
        query_length: int | None = None,
        document_length: int | None = None,
    ) -> None:
        """Set the number that query vectors are divided by."""
        lengths = {"query_length": query_length, "document_length": document_length}
        super().__init__(backbone, query_backbone=query_backbone, similarity="dot", name=name, **lengths)  # type: ignore[arg-type]
        self.by = by

    def encode_queries(self, tokens: Tokens) -> Embeddings:
        """The query vectors, divided by the number."""
        return Embeddings(super().encode_queries(tokens).vectors_BH / self.by)


def test_a_family_of_another_package_loads_only_if_it_is_configured(
    backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """A checkpoint alone must not make load import a package; both encoders and the setting survive saving."""
    call: Any = partial(Divided, backbone=backbones["encoder"], query_backbone=backbones["decoder"], by=3.0)
    model = call().eval()
    save(model, tmp_path)
    with pytest.raises(UserError, match=r"the family 'tests\.model\.test_new_family\.Divided' is not in a package"):
        load(tmp_path)
    opened = load(tmp_path, like=call)
    assert isinstance(opened, Divided)
    assert opened.by == 3.0
    torch.testing.assert_close(opened.score(tiny.QUERIES, tiny.DOCUMENTS), model.score(tiny.QUERIES, tiny.DOCUMENTS))
    path = tmp_path / "irexp.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | {"bye": 1}))
    with pytest.raises(UserError, match=r"irexp\.json: a Divided has no setting bye; its settings: by"):
        load(tmp_path, like=call)


#: The classes that conf/model names.
TARGETS = {
    str(OmegaConf.select(option, path, default=""))
    for option in map(OmegaConf.load, sorted((CONF / "model").glob("*.yaml")))
    for path in ("_target_", "model._target_")
}


@pytest.mark.parametrize("target", sorted(target for target in TARGETS if target.startswith("irexp.model.")))
def test_every_family_is_found_by_the_name_that_it_writes(target: str) -> None:
    """Old folders name the module; the class's name and path are found, too."""
    family: Any = get_class(target)
    for name in (family.family(), family.__name__, target):
        assert find_family(name, Path("irexp.json")) is family
    assert family.family() in OLD


def test_a_family_of_a_declared_package_is_opened_by_its_file_alone(
    backbones: dict[str, HuggingFaceBackbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another package the refusal names both ways to declare it."""
    model = Divided(backbones["encoder"], query_backbone=backbones["decoder"]).eval()
    save(model, tmp_path)
    monkeypatch.delenv("IREXP_PACKAGES", raising=False)
    with pytest.raises(
        UserError, match=r"irexp\.components, or named in the environment variable IREXP_PACKAGES; or name"
    ):
        load(tmp_path)
    monkeypatch.setenv("IREXP_PACKAGES", "tests")
    torch.testing.assert_close(
        load(tmp_path).score(tiny.QUERIES, tiny.DOCUMENTS), model.score(tiny.QUERIES, tiny.DOCUMENTS)
    )


#: What irexp.json calls the families of the first version; none of these may ever change.
OLD = {"dense", "splade", "unicoil", "coil", "colbert", "xtr", "mvr", "mono", "token_logit", "set_encoder"}


def test_the_family_names_of_the_first_version_are_known() -> None:
    """Checkpoints of the first version must still load; the parametrisation above has as many classes."""
    assert len([target for target in TARGETS if target.startswith("irexp.model.")]) == len(OLD)
    assert {find_family(name, Path("irexp.json")).family() for name in OLD} == OLD


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os.system", "is not in a package"),
        ("builtins.open", "is not in a package"),
        ("irexp.artifact.store.Store", "is not a family of models"),
        ("irexp.model.model.Model", "is not a family of models"),
        ("irexp.model.colbert.nowhere", "cannot be found"),
        ("irexp.nowhere.Nothing", "cannot be found"),
        ("nowhere", "is not known; .*colbert, "),
        (["a"], "is not known"),
    ],
)
def test_a_name_that_is_not_a_family_is_refused(name: object, message: str, tmp_path: Path) -> None:
    """A file must not make load import or call anything but a family of models."""
    (tmp_path / "irexp.json").write_text(json.dumps({"family": name}))
    with pytest.raises(UserError, match=message):
        load(tmp_path)
