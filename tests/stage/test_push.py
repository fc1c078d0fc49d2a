"""The model card, and what of a checkpoint is published; the upload itself needs a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

from irexp.stage.card import model_card
from irexp.stage.chain import card_of, plain, run_chain
from irexp.stage.push import published, push
from irexp.types import UserError

Compose = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("model", "opener"),
    [
        ("sbert", 'SentenceTransformer("me/model")'),
        ("splade", 'SparseEncoder("me/model")'),
        ("mono", 'CrossEncoder("me/model")'),
        ("colbert", 'models.ColBERT("me/model")'),
        ("coil", 'load("me/model")'),
    ],
)
def test_a_card_says_what_decided_the_weights(model: str, opener: str, compose: Compose) -> None:
    """Data, loss, hyper-parameters and measures, under metadata that the hub reads."""
    config = compose(f"model={model}")
    card = model_card(
        plain(config),
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
        "`training.learning_rate`",
        "`loss`",
        "checkpoint/x-12345678",
        "0.8123",
        "0.5000",
    ):
        assert part in text
    assert ("`regularizer` | FLOPS" in text) == (model == "splade")


def test_a_checkpoint_has_a_card_and_its_manifest_stays_here(compose: Compose, tmp_path: Path) -> None:
    """Fit writes the card; with measures it has their table; the machine's record is not published."""
    overrides = ["training=none", f"paths.artifacts={tmp_path}", "machine.progress=false", "dataset.test.split=dev"]
    config = compose(*overrides)
    outcomes = {o.stage: o for o in run_chain(config, ["fit", "encode", "index", "search", "evaluate"], overrides)}
    assert outcomes["fit"].path and outcomes["evaluate"].path
    checkpoint = Path(outcomes["fit"].path)
    assert "0: the backbone as it comes" in (checkpoint / "README.md").read_text(encoding="utf8")
    files = published(checkpoint)
    assert {"model.safetensors", "modules.json", "irexp.json", "1_Pooling/config.json"} <= set(files)
    assert not {"manifest.json", "README.md"} & set(files)
    card = card_of(config, checkpoint, "me/model", Path(outcomes["evaluate"].path))
    measured = json.loads((Path(outcomes["evaluate"].path) / "manifest.json").read_text())["provenance"]["measures"]
    assert f"| `nDCG@10` | {measured['nDCG@10']:.4f} |" in card


def test_without_a_network_or_a_name_the_hub_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with what to do."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="could not be written on the hub"):
        push(tmp_path, "card", repository="a/b/c")
