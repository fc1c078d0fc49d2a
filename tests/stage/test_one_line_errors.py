"""What a user can fix is said in one line with what, where and how, whatever part of the system notices it first."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertModel

from irexp.artifact.content import digest_of
from irexp.artifact.identity import Identity
from irexp.artifact.lineage import nearest
from irexp.artifact.store import Store
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.dataset.local import LocalDocuments
from irexp.dataset.sources import open_documents
from irexp.index.bm25 import BM25Index
from irexp.model.checkpoint.files import Content, read_json
from irexp.model.load import load
from irexp.pipeline.component import component
from irexp.pipeline.scratch import new_folder
from irexp.types import UserError
from tests.chains import Compose, run, settings

LONG = "n" * 300


def said(error: pytest.ExceptionInfo[UserError]) -> str:
    """The message, which is one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_constructors_error_is_the_stages_and_the_functions(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Not Hydra's exception around it, with a traceback."""
    with pytest.raises(UserError, match=r"^index\.k1=-1 must be at least 0") as error:
        run(compose, settings(tmp_path, collection, "model=bm25", "index.k1=-1"), ["index"])
    assert said(error)
    with pytest.raises(UserError, match=r"^index\.k1=nan must be at least 0"):
        BM25Index(float("nan"))
    with pytest.raises(UserError, match=r"^index\.token_pattern=\(\\w\+ is not a regular expression"):
        component("index", "bm25", token_pattern=r"(\w+")


def test_a_long_name_of_a_model_gives_a_short_name_of_a_folder(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Whatever the name, its artifacts are made, and found by their digest."""
    made = run(compose, settings(tmp_path, collection, "model=bm25", f"model.name={LONG}"), ["index"])
    again = run(compose, settings(tmp_path, collection, "model=bm25"), ["index"])
    assert Path(str(made["index"].path)).name.startswith("n" * 100 + ".") and again["index"].status == "already done"


@pytest.mark.parametrize("setting", ["artifact.run", "artifact.checkpoint"])
def test_a_long_name_of_an_artifact_is_one_that_does_not_exist(
    compose: Compose, tmp_path: Path, collection: Path, setting: str
) -> None:
    """The fault names the setting."""
    with pytest.raises(UserError, match=rf"{setting}=n+: there is"):
        run(compose, settings(tmp_path, collection, f"{setting}={LONG}"), ["evaluate"])


def test_long_paths_are_paths_that_do_not_exist(tmp_path: Path) -> None:
    """The system would raise an error of its own, which says nothing of what to do."""
    with pytest.raises(UserError, match=r"does not exist, with or without \.gz"):
        list(LocalDocuments(f"{tmp_path}/{LONG}/corpus.jsonl"))
    with pytest.raises(UserError, match="there is no file or folder"):
        open_documents(tmp_path / LONG)
    with pytest.raises(UserError, match=r"there is no folder n+; a checkpoint is a folder or a name on the hub"):
        load(LONG)
    with pytest.raises(UserError, match="cannot be created"), new_folder(tmp_path / LONG):
        pass
    with pytest.raises(UserError, match=r"paths\.artifacts=.*: it cannot be read \(File name too long\)"):
        Store(tmp_path / LONG).all("run")


def test_a_root_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    """A file in its place, a file above it, and a folder in which no file can be created."""
    identity = Identity("run", "run/m.c-00000000", {}, {})
    (tmp_path / "file").touch()
    (tmp_path / "root" / "run" / ".lock-m.c-00000000").mkdir(parents=True)  # as root, permissions stop nobody
    for root in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "root"):
        with (
            pytest.raises(UserError, match=r"paths\.artifacts=.*nothing can be written there") as error,
            Store(root).making(identity, resumes=False),
        ):
            pass
        assert said(error)


def test_the_nearest_artifact_is_of_the_same_collection(tmp_path: Path) -> None:
    """One of another collection differs in what nobody changed; digests are shortened."""

    def made(name: str, **settings: Any) -> Identity:
        identity = Identity("run", f"run/{name}-{digest_of(settings)}", settings, settings)
        with Store(tmp_path).making(identity, resumes=False):
            pass
        return identity

    wanted = Identity("run", "run/m.mine-00000000", {}, {"seed": 1, "corpus": "a" * 64})
    store = Store(tmp_path)
    made("m.other", seed=1, corpus="b" * 64)
    assert nearest(wanted, store.manifests("run")) is None
    near = made("m.mine", seed=2, corpus="b" * 64)
    found = nearest(wanted, store.manifests("run"))
    assert found == (near.name, ["corpus: bbbbbbbb… there, aaaaaaaa… here", "seed: 2 there, 1 here"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"_id": "d", "text": "t", "a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply; remove what"),
        ('{"_id": "d", "text": "t", "a": ' + "9" * 5000 + "}", "more than 4300 digits; write it as a text, in quotes"),
        ('{"_id": "d", "text": "half \\ud83d"}', "half of a surrogate pair"),
        ('{"_id": "d", "text" "t"}', "this is not JSON .*; correct the line"),
    ],
    ids=["deep", "digits", "half an emoji", "malformed"],
)
def test_faulty_json_is_named_by_its_line(tmp_path: Path, line: str, words: str) -> None:
    """With how to fix it, and without advice about Python."""
    (tmp_path / "c.jsonl").write_text(f'{{"_id": "a", "text": "t"}}\n{line}\n')
    with pytest.raises(UserError, match=rf"c\.jsonl:2: .*{words}") as error:
        list(LocalDocuments(str(tmp_path / "c.jsonl")))
    assert "sys." not in said(error)


def test_a_faulty_line_of_a_compressed_file_may_be_damage(tmp_path: Path) -> None:
    """A wrong byte within gzip changes the text long before its checksum is read."""
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "a" "text"}\n'))
    with pytest.raises(UserError, match=r"c\.jsonl\.gz:1: this is not JSON .*download the file again"):
        list(LocalDocuments(str(tmp_path / "c.jsonl")))


def test_a_faulty_config_of_a_checkpoint_is_damage(tmp_path: Path) -> None:
    """Deep nesting and long numbers, like any text that is not JSON; an architecture that is not a list names none."""
    for text in ("[" * 100_000, '{"a": ' + "9" * 5000 + "}", "{"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=r"config\.json is not JSON .*; the checkpoint is damaged") as error:
            read_json(tmp_path / "config.json")
        assert "sys." not in said(error)
    (tmp_path / "config.json").write_text('{"architectures": 5}')
    assert Content(tmp_path).architecture == ""


def test_a_manifest_of_a_given_artifact_is_damage(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """It is read before the store looks at it."""
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json cannot be read .*remove"):
        run(compose, settings(tmp_path, collection, f"artifact.run={tmp_path / 'given'}"), ["evaluate"])


def test_an_attention_that_does_not_exist_and_quantised_weights_are_refused(tmp_path: Path) -> None:
    """Before weights are read, with the choices."""
    sizes = BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(sizes).save_pretrained(tmp_path)
    assert HuggingFaceBackbone(str(tmp_path)).load_encoder().config.hidden_size == 8
    with pytest.raises(UserError, match=r"^backbone\.attn_implementation=nope: .*choose one of eager, sdpa") as error:
        HuggingFaceBackbone(str(tmp_path), attn_implementation="nope").load_encoder()
    assert said(error)
    config = json.loads((tmp_path / "config.json").read_text())
    for method in ("gptq", "fp8"):
        quantised = config | {"quantization_config": {"quant_method": method}}
        (tmp_path / "config.json").write_text(json.dumps(quantised))
        with pytest.raises(UserError, match=rf"quantised weights \({method}\), and .* name the checkpoint") as error:
            HuggingFaceBackbone(str(tmp_path)).load_encoder()
        assert said(error)
