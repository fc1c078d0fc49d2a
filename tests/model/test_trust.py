"""No file of a checkpoint can have code run: only the configuration, or the caller of `load`, can allow it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.coil import COIL
from irexp.model.dense import DenseBiEncoder
from irexp.model.lora import add_lora, save_adapter
from irexp.types import UserError
from tests import tiny
from tests.families import MAKE

CODE = """
from pathlib import Path
from transformers import BertConfig, BertModel, BertTokenizer

Path({harm!r}).touch()

class OwnConfig(BertConfig):
    model_type = "own"

class OwnModel(BertModel):
    config_class = OwnConfig

class OwnTokenizer(BertTokenizer):
    pass
"""

CLASSES = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}


@pytest.fixture
def harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists once code of a checkpoint was run."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    return tmp_path / "harm"


def edit(path: Path, **values: Any) -> None:
    """Change a JSON file."""
    said = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    path.write_text(json.dumps(said | values), encoding="utf8")


def with_code(folder: Path, harm: Path) -> Path:
    """A tiny BERT whose architecture is defined by code in its folder."""
    tiny.bert(folder)
    (folder / "own.py").write_text(CODE.format(harm=str(harm)))
    edit(folder / "config.json", model_type="own", auto_map=CLASSES)
    return folder


def test_code_is_run_if_the_caller_allows_it(harm: Path, tmp_path: Path) -> None:
    """Allowed by a parameter or a configured backbone; this proves that the folders below contain code to run."""
    folder = with_code(tmp_path / "own", harm)
    with pytest.raises(UserError, match="contains custom code which must be executed"):
        load(folder)
    assert not harm.exists()
    model = load(folder, trust_remote_code=True)
    assert harm.exists()
    like: Any = partial(DenseBiEncoder, backbone=HuggingFaceBackbone(str(folder), trust_remote_code=True))
    torch.testing.assert_close(
        load(folder, like=like).score(tiny.QUERIES, tiny.DOCUMENTS), model.score(tiny.QUERIES, tiny.DOCUMENTS)
    )
    save(model, tmp_path / "saved")
    shutil.rmtree(tmp_path / "own")
    with pytest.raises(UserError, match="contains custom code which must be executed"):
        load(tmp_path / "saved")
    opened = load(tmp_path / "saved", trust_remote_code=True)
    torch.testing.assert_close(opened.score(tiny.QUERIES, tiny.DOCUMENTS), model.score(tiny.QUERIES, tiny.DOCUMENTS))


def _adapters(folder: Path, harm: Path) -> None:
    """Adapters whose recipe names a backbone with code."""
    base = with_code(folder / "base", harm)
    _over(folder, base)
    place = {"name_or_path": str(base), "revision": None, "attn_implementation": None, "trust_remote_code": True}
    edit(folder / "irexp.json", adapter_of="DenseBiEncoder", settings={}, backbones={"backbone": place})


def _over(folder: Path, base: Path) -> None:
    """Adapters over a base."""
    model = DenseBiEncoder(HuggingFaceBackbone(str(tiny.bert(folder / "plain"))))
    from peft import LoraConfig

    add_lora(model, LoraConfig(r=2))
    save_adapter(model, folder, base=str(base))


def _adapters_of_a_target(folder: Path, harm: Path) -> None:
    """A recipe with a node that Hydra would instantiate."""
    _over(folder, tiny.bert(folder / "base"))
    node = {"_target_": "pathlib.Path.touch", "_args_": [str(harm)]}
    place = {"name_or_path": str(folder / "base")}
    edit(folder / "irexp.json", adapter_of="COIL", settings={"token_dim": node}, backbones={"backbone": place})


def _adapters_elsewhere(folder: Path, harm: Path) -> None:
    """Adapters of peft over a base with code."""
    _over(folder, with_code(folder / "base", harm))


def _attention_of_a_recipe(folder: Path, harm: Path) -> None:
    """An attention named after a hub repository is code."""
    _over(folder, tiny.bert(folder / "base"))
    place = {"name_or_path": str(folder / "base"), "attn_implementation": "owner/kernel"}
    edit(folder / "irexp.json", adapter_of="DenseBiEncoder", settings={}, backbones={"backbone": place})


def _attention_of_a_configuration(folder: Path, harm: Path) -> None:
    edit(tiny.bert(folder) / "config.json", attn_implementation="owner/kernel")


def _tokenizer(folder: Path, harm: Path) -> None:
    """A BERT with a tokenizer defined by code."""
    with_code(folder, harm)
    edit(folder / "config.json", model_type="bert", auto_map={})
    auto_map = {"AutoTokenizer": ["own.OwnTokenizer", "own.OwnTokenizer"]}
    edit(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=auto_map)


def _transformer_of_a_list(folder: Path, harm: Path) -> None:
    """A transformer with code in a list of modules."""
    with_code(folder / "0_Transformer", harm)
    modules = [{"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    pooling = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
    (folder / "modules.json").write_text(json.dumps([*modules, pooling]))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")


def _module(folder: Path, harm: Path) -> None:
    """A module whose class is defined by code."""
    with_code(folder, harm)
    edit(folder / "config.json", model_type="bert", auto_map={})
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "own.OwnModel"}]))


def _kind_of_tokenizer(folder: Path, harm: Path) -> None:
    """Lightning IR's setting for the tokenizer's class, with the name of another class."""
    shutil.copytree(Path(__file__).parents[1] / "data" / "checkpoint" / "set_encoder", folder, dirs_exist_ok=True)
    edit(folder / "tokenizer_config.json", backbone_tokenizer_class="pipeline")


def _chat_template(folder: Path, harm: Path) -> None:
    """A template that leaves its sandbox."""
    tiny.decoder(folder)
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}{query}{document}"
    edit(folder / "tokenizer_config.json", chat_template=escape)
    output: dict[str, Any] = {"method": "forward", "method_output_name": "logits"}
    task = {"transformer_task": "text-generation", "module_output_name": "causal_logits"}
    edit(folder / "sentence_bert_config.json", modality_config={"text": output, "message": output}, **task)
    (folder / "1_LogitScore").mkdir()
    edit(folder / "1_LogitScore" / "config.json", true_token_id=1)
    kinds = ("base.modules.transformer.Transformer", "cross_encoder.modules.logit_score.LogitScore")
    entries = [
        {"idx": i, "name": str(i), "path": ("", "1_LogitScore")[i], "type": f"sentence_transformers.{k}"}
        for i, k in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))


def _activation(folder: Path, harm: Path) -> None:
    """An activation that is another class of torch.nn."""
    tiny.decoder(folder)
    settings = {"true_token": "yes", "false_token": "no", "activation": "Module"}
    edit(folder / "irexp.json", family="token_logit", name="x", **settings)


def _adapters_of_another_kind(folder: Path, harm: Path) -> None:
    """Adapters of a type other than LoRA, with other settings."""
    _over(folder, tiny.bert(folder / "base"))
    place = {"name_or_path": str(folder / "base")}
    edit(folder / "irexp.json", adapter_of="DenseBiEncoder", settings={}, backbones={"backbone": place})
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3", "target_modules": ["query"]}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (with_code, "contains custom code which must be executed"),
        (_adapters, "a backbone's trust_remote_code must not be set by a checkpoint"),
        (_adapters_of_a_target, r"token_dim=.* must be a number, a string, null, or a list"),
        (_adapters_elsewhere, "contains custom code which must be executed"),
        (_attention_of_a_recipe, "attn_implementation=owner/kernel must not be set by a checkpoint"),
        (_attention_of_a_configuration, "asks for the attention owner/kernel, which is code from the hub"),
        (_transformer_of_a_list, "contains custom code which must be executed"),
        (_module, r"the module own\.OwnModel is code of the checkpoint, which is not supported"),
        (_kind_of_tokenizer, "'pipeline' is not a tokenizer of transformers"),
        (_chat_template, r"its chat template cannot be filled \(access to attribute"),
        (_activation, "the activation Module is not supported"),
        (_adapters_of_another_kind, "adapters of type .*IA3 are not supported"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_code_of_a_checkpoint_is_refused(
    make: Callable[[Path, Path], Any], message: str, harm: Path, tmp_path: Path
) -> None:
    """Whichever file asks for it, the error comes before anything is run."""
    make(tmp_path / "folder", harm)
    like: Any = partial(DenseBiEncoder) if make is _adapters_elsewhere else None
    with pytest.raises(UserError, match=message):
        load(tmp_path / "folder", like=like)
    assert not harm.exists()


def test_a_tokenizer_with_code_is_replaced_by_that_of_transformers(harm: Path, tmp_path: Path) -> None:
    """For a known architecture transformers' own tokenizer is used, and the code is not run."""
    _tokenizer(tmp_path / "folder", harm)
    expected = load(tiny.bert(tmp_path / "plain")).score(tiny.QUERIES, tiny.DOCUMENTS)
    torch.testing.assert_close(load(tmp_path / "folder").score(tiny.QUERIES, tiny.DOCUMENTS), expected)
    assert not harm.exists()


class Harm:
    """Creates a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        """Choose the folder."""
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        """The call that unpickling makes."""
        return (os.mkdir, (str(self.place),))


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin", "1_Dense", "2_Dense", "model.pt", "adapter_model.bin"],
)
def test_a_pickle_that_runs_code_is_refused_wherever_it_is(
    name: str, harm: Path, backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """In the weights of a transformer, whole or sharded, of other layers, and of adapters."""
    folder = tmp_path / "folder"
    path = folder / name
    if name.startswith("pytorch_model"):
        tiny.bert(folder)
        (folder / "model.safetensors").unlink()
        if "00001" in name:
            weight_map = {"embeddings.word_embeddings.weight": name}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    elif name == "1_Dense":
        save(MAKE["colbert"](backbones), folder)
        (path / "model.safetensors").unlink()
        path = path / "pytorch_model.bin"
    elif name == "2_Dense":
        tiny.t5(folder, "T5EncoderModel")
        path.mkdir()
        path = path / "pytorch_model.bin"
    elif name == "model.pt":
        save(COIL(backbones["encoder"]), folder)
    else:
        _over(folder, folder / "plain")
        (folder / "adapter_model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Harm(harm)}, path)
    like: Any = partial(DenseBiEncoder) if name == "adapter_model.bin" else None
    with pytest.raises(UserError, match=r"since it could run code|cannot be read as a AutoModel .*[Ww]eights.only"):
        load(folder, like=like)
    assert not harm.exists()
    torch.load(path, weights_only=False)
    assert harm.exists()  # if it is allowed to


def test_a_checkpoints_setting_that_its_family_lacks_is_refused(
    backbones: dict[str, HuggingFaceBackbone], tmp_path: Path
) -> None:
    """This includes trust_remote_code: a file must not allow its own code to run."""
    save(MAKE["mvr"](backbones), tmp_path)
    assert load_file(tmp_path / "model.safetensors")
    edit(tmp_path / "irexp.json", trust_remote_code=True)
    with pytest.raises(UserError, match=r"a MVR has no setting trust_remote_code; its settings: viewers"):
        load(tmp_path)
