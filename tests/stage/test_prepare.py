"""stage=prepare: everything that an experiment reads from a network is listed and fetched, and nothing else is made."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from ir_datasets.formats import TrecScoredDocs
from ir_datasets.util import Download, RequestsDownload

from irexp.artifact.experiment import Experiment
from irexp.artifact.hub import HubModel
from irexp.artifact.store import Store
from irexp.stage.execute import execute
from irexp.stage.job import Job, run_stages
from irexp.stage.prepare import Line
from irexp.types import UserError
from tests.chains import TEXTS, Compose, planned
from tests.irds import UNREACHABLE, registered, served

DOCS = "".join(f"d{number}\t{text}\n" for number, text in enumerate(TEXTS))

#: An experiment on the registered collection that reads no model of the hub.
BASE = ["dataset=irds", "dataset.id=irexp-toy", "training=none", "model=mono", "re_rank=scoreddocs", "re_rank.depth=2"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of the hub, which is not reached."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    """The overrides of the experiment with its baselines, BM25 and the model before fine-tuning."""
    return [*BASE, f"paths.artifacts={tmp_path / 'artifacts'}", "stage=prepare"]


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[str]:
    """The address of a server with the collection's scoreddocs."""
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / "run").write_text("q1 Q0 d3 1 2.5 x\nq1 Q0 d2 2 1.5 x\n")
    with served(tmp_path / "remote") as url:
        yield f"{url}/run"


def downloaded(tmp_path: Path, url: str) -> TrecScoredDocs:
    """Scoreddocs that ir_datasets downloads from an address."""
    return TrecScoredDocs(Download([RequestsDownload(url, tries=1)], cache_path=str(tmp_path / "cached" / "run")))


def prepared(compose: Compose, overrides: list[str]) -> list[Line]:
    """Run the stage; returns its list."""
    plan = planned(compose, overrides, ["prepare"])
    root = plan.experiment.root
    ((_, _, lines),) = execute(plan, Store(root), root.parent)
    assert not root.exists()
    return list(lines)


def states(lines: list[Line]) -> dict[str, str]:
    """State by name."""
    return {name: state for state, _, name in lines}


PARTS = [f"irexp-toy of ir_datasets, {part}" for part in ("docs", "queries", "qrels", "scoreddocs")]


def test_what_is_not_here_is_fetched_once(compose: Compose, tmp_path: Path, overrides: list[str], remote: str) -> None:
    """The store of documents and the downloaded candidates; the second time all is there, with its bytes."""
    with registered(tmp_path, DOCS, downloaded(tmp_path, remote)):
        first = states(prepared(compose, overrides))
        assert first == dict(zip(PARTS, ("fetched", "there", "there", "fetched"), strict=True))
        again = prepared(compose, overrides)
    assert set(states(again).values()) == {"there"}
    assert all(count for _, count, _ in again)


def test_a_dry_run_fetches_nothing(
    compose: Compose, tmp_path: Path, overrides: list[str], remote: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It lists the same parts, and leaves the server alone."""
    typed = [*overrides, "dry_run=true"]
    with registered(tmp_path, DOCS, downloaded(tmp_path, remote)), caplog.at_level(logging.INFO):
        run_stages(Experiment(tuple(typed), compose(*typed)), Job(typed), tmp_path)
    listed = [line.split("  ")[0] for line in caplog.text.splitlines() if "of ir_datasets" in line]
    assert listed == ["to fetch", "there", "there", "to fetch"]
    assert not any((tmp_path / "cached").glob("*"))
    assert not (tmp_path / "docs.tsv.pklz4").exists()


def test_what_cannot_be_fetched_is_one_line_each(
    compose: Compose, tmp_path: Path, overrides: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The candidates, the checkpoint and a package are missing: the rest is fetched, and the stage fails at the end."""
    typed = [*overrides, "artifact.checkpoint=nobody/nothing", "backbone.package=no-such-package"]
    typed += ['baselines=[["training=none"],["artifact.checkpoint=own"]]']
    toy = registered(tmp_path, DOCS, downloaded(tmp_path, UNREACHABLE))
    with toy, caplog.at_level(logging.INFO), pytest.raises(UserError, match="3 of 6 are not on this machine") as error:
        prepared(compose, typed)
    assert "\n" not in str(error.value)
    lines = [line for line in caplog.text.splitlines() if line.startswith("missing")]
    assert len(lines) == 3
    assert "nobody/nothing of the hub: " in lines[0] and "cannot be fetched" in lines[0]
    assert "scoreddocs: the files of irexp-toy cannot be downloaded" in lines[1]
    assert "pip install no-such-package==" in lines[2]


def test_every_experiment_of_the_plan_is_prepared(compose: Compose, tmp_path: Path) -> None:
    """The backbone of a baseline and the checkpoint of its candidates, but no training data for training=none."""
    typed = [
        *("dataset=trec_dl_2019", "model=sbert", "artifact.checkpoint=owner/first", "training=none", "stage=prepare"),
        'baselines=[["model=mono","backbone=distilbert","training=none",'
        """'re_rank.candidates=["artifact.checkpoint=owner/second"]']]""",
        *(f"paths.artifacts={tmp_path / 'artifacts'}", "dry_run=true"),
    ]
    hub = [name for name in states(prepared(compose, typed)) if "of the hub" in name]
    names = ("distilbert/distilbert-base-uncased", "owner/first", "owner/second")
    assert sorted(hub) == [f"{name} of the hub" for name in names]
    parts = {name.rpartition(", ")[2] for name in states(prepared(compose, typed)) if "of ir_datasets" in name}
    assert parts == {"docs", "queries", "qrels"}


def test_a_model_of_the_hub_is_here_with_all_its_weights(tmp_path: Path) -> None:
    """The commit and config.json alone, which a plan fetches, are no model; nor is half of the parts of its weights."""
    folder = tmp_path / "hub" / "models--owner--name" / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text("a" * 40)
    (folder / "config.json").write_text("{}")
    model = HubModel("owner/name")
    assert not model.is_here() and model.bytes_here() is None
    parts = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict(zip("ab", parts, strict=True))})
    )
    (folder / parts[0]).write_bytes(b"12345")
    assert not model.is_here()
    (folder / parts[1]).write_bytes(b"12345")
    assert model.is_here()
    assert model.bytes_here() == sum(path.stat().st_size for path in folder.iterdir())
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    assert not model.is_here()
    assert not HubModel("owner/name", revision="b" * 40).is_here()
