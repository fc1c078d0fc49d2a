"""Identities: what moves them, and what does not."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from irexp.artifact import experiment as experiment_module
from irexp.artifact.content import content_digest, hub_revision
from irexp.artifact.experiment import Experiment
from irexp.artifact.identity import canonical, digest_in
from irexp.artifact.plan import draft_plan
from irexp.artifact.stages import KINDS, STAGES
from irexp.config.installation import CONF

_MAKING = [name for name, stage in STAGES.items() if stage.makes is not None]


def names_of(config: DictConfig) -> dict[str, str]:
    """Kind → name of what a configuration makes itself."""
    plan, _ = draft_plan(Experiment((), config), _MAKING)
    return {step.artifact.kind: step.name for step in plan.own if step.artifact is not None}


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a configuration may hold what no component takes: what it is made of does not matter to a digest."""
    monkeypatch.setattr(experiment_module, "check", lambda config: None)


@pytest.fixture
def config(tmp_path: Path, compose: Callable[..., DictConfig]) -> DictConfig:
    """A small configuration with every ingredient."""
    config = compose()
    return OmegaConf.merge(  # type: ignore[return-value]
        config,
        {
            "model": {
                "_target_": "irexp.model.dense.DenseBiEncoder",
                "_partial_": True,
                "name": "sbert",
                "pooling": "mean",
            },
            "loss": {"_target_": "irexp.loss.info_nce.InfoNCE", "temperature": 0.05},
            "index": {"_target_": "irexp.index.faiss_index.Faiss", "factory": "Flat"},
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": "${training.learning_rate}"},
            "schedule": {"_target_": "irexp.training.schedule.linear_warmup"},
            "dataset": {"name": "toy", "documents": {"size": 3}, "train": {"a": 1}, "dev": {"b": 1}, "test": {"c": 1}},
            "paths": {"artifacts": str(tmp_path / "artifacts")},
        },
    )


def _names(config: DictConfig, **changes: Any) -> dict[str, str]:
    changed = config.copy()
    for key, value in changes.items():
        OmegaConf.update(changed, key.replace("__", "."), value, force_add=True)
    return names_of(changed)


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"training__learning_rate": 1e-4}, {"checkpoint", "encoding", "index", "run", "measures", "speed"}),
        ({"seed": 1}, {"checkpoint", "encoding", "index", "run", "measures", "speed"}),
        ({"model__pooling": "cls"}, {"checkpoint", "encoding", "index", "run", "measures", "speed"}),
        ({"encoding__dtype": "float16"}, {"encoding", "index", "run", "measures", "speed"}),
        ({"index__probes": 4}, {"index", "run", "measures", "speed"}),
        ({"index__search": {"probes": 4}}, {"run", "measures", "speed"}),
        ({"index__engine": {"lists": 8, "search": {"probes": 4}}}, {"index", "run", "measures", "speed"}),
        ({"search__depth": 50}, {"run", "measures", "speed"}),
        ({"dataset__test": {"c": 2}}, {"run", "measures", "speed"}),
        ({"evaluation__measures": ["AP"]}, {"measures"}),
        ({"machine__threads": 7}, {"speed"}),
        ({"machine__accelerator": "gpu"}, {"speed"}),
        ({"machine__devices": 8}, set()),
        ({"evaluation__alpha": 0.01}, set()),
        ({"index__new_option": None}, set()),
        ({"model__name": "mine", "dataset__name": "toy"}, set()),
        ({"model___target_": "irexp.elsewhere.DenseBiEncoder"}, set()),
    ],
)
def test_a_change_moves_exactly_the_artifacts_whose_content_it_can_change(
    config: DictConfig, change: dict[str, Any], moved: set[str]
) -> None:
    """An option moves what it determines and all that is made from it, and nothing else."""
    before, after = _names(config), _names(config, **change)
    assert {kind for kind in KINDS if digest_in(before[kind]) != digest_in(after[kind])} == moved


OPTIONS = sorted(path.stem for path in (CONF / "index").glob("*.yaml"))


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values of a configuration, by dotted path."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        elif not key.startswith("_"):
            yield f"{path}{key}", value


@pytest.mark.parametrize("option", OPTIONS)
def test_every_setting_of_an_engine_moves_what_it_changes(compose: Callable[..., DictConfig], option: str) -> None:
    """What an engine is built with moves the index, what it is searched with the run alone, and none moves nothing."""
    config = compose(f"index={option}")
    before = names_of(config)
    for path, value in _leaves(OmegaConf.to_container(config.index)):
        changed = config.copy()
        OmegaConf.update(changed, f"index.{path}", 7 if value != 7 else 8)
        moved = {kind for kind, name in names_of(changed).items() if before[kind] != name}
        later = {"run", "measures", "speed"}
        assert moved == (later if "search." in path else {"index", *later}), path


def test_the_length_of_queries_encodes_no_document_anew(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    """With a checkpoint from elsewhere it moves the run alone."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    theirs = [f"artifact.checkpoint={tmp_path}"]
    one, two = compose(*theirs, "model.query_length=8"), compose(*theirs, "model.query_length=16")
    assert names_of(one)["index"] == names_of(two)["index"]
    assert names_of(one)["run"] != names_of(two)["run"]


def test_the_name_is_for_people_and_ends_in_the_digest(config: DictConfig) -> None:
    """A folder's name says the kind, the model and the collection."""
    name = names_of(config)["run"]
    assert name.startswith("run/sbert.toy-")
    assert len(digest_in(name) or "") == 8


def test_a_name_without_a_latin_letter_is_found_again(config: DictConfig) -> None:
    """The part for people is never empty, so that a folder's name never begins with a dot."""
    config.model.name = "模型"
    assert names_of(config)["run"].startswith("run/any.toy-")


def test_a_local_file_enters_by_its_content(config: DictConfig, tmp_path: Path) -> None:
    """Changed content moves the identity; a copy elsewhere does not."""
    (tmp_path / "a.jsonl").write_text("one")
    (tmp_path / "b.jsonl").write_text("one")
    first = _names(config, dataset__documents={"path": str(tmp_path / "a.jsonl")})
    assert first == _names(config, dataset__documents={"path": str(tmp_path / "b.jsonl")})
    (tmp_path / "b.jsonl").write_text("two")
    assert first["index"] != _names(config, dataset__documents={"path": str(tmp_path / "b.jsonl")})["index"]


def test_a_checkpoint_from_elsewhere_enters_by_its_content(config: DictConfig, tmp_path: Path) -> None:
    """Training settings play no role for a checkpoint that was not trained here."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    theirs = _names(config, artifact__checkpoint=str(folder))
    assert theirs["index"] == _names(config, artifact__checkpoint=str(folder), training__learning_rate=1.0)["index"]
    (folder / "model.safetensors").write_bytes(b"other")
    assert theirs["index"] != _names(config, artifact__checkpoint=str(folder))["index"]


def test_an_identifier_stands_for_what_it_names(config: DictConfig) -> None:
    """Naming one's own checkpoint by its identifier leads to the same index."""
    names = _names(config)
    assert _names(config, artifact__checkpoint=names["checkpoint"])["index"] == names["index"]


def test_without_a_checkpoint_training_plays_no_role(config: DictConfig) -> None:
    """The index of BM25 is not named after a learning rate."""
    nothing = {"artifact__checkpoint": None, "artifact__encoding": None}
    assert _names(config, **nothing)["run"] == _names(config, **nothing, training__learning_rate=1.0, seed=7)["run"]


def test_a_model_that_is_not_trained_is_the_same_for_every_collection(config: DictConfig) -> None:
    """Without a step of training, neither data nor loss nor learning rate name the checkpoint."""
    untrained = {"training__steps": 0}
    before = _names(config, **untrained)["checkpoint"]
    assert _names(config, **untrained, training__learning_rate=1.0, dataset__train={"a": 2})["checkpoint"] == before
    assert _names(config, **untrained, model__pooling="cls")["checkpoint"] != before


def test_canonical_values() -> None:
    """Nulls and names go, 1.0 equals 1, a class enters by its name."""
    value = {"_target_": "a.b.C", "_partial_": True, "name": "x", "k": 1.0, "n": None, "l": [1.0, 0.5]}
    assert canonical(value) == {"_target_": "C", "k": 1, "l": [1, 0.5]}
    assert json.dumps(canonical({"flag": True})) == '{"flag": true}'


def test_folder_digests_ignore_hidden_files_and_see_names(tmp_path: Path) -> None:
    """A renamed file changes a folder's digest, a hidden one does not."""
    (tmp_path / "a").write_text("x")
    before = content_digest(tmp_path)
    (tmp_path / ".cache").write_text("y")
    assert content_digest(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert content_digest(tmp_path) != before


def test_a_hub_model_enters_by_the_commit_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched earlier keeps its commit in the cache's references."""
    references = tmp_path / "models--org--model" / "refs"
    references.mkdir(parents=True)
    (references / "main").write_text("abc123")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert hub_revision("org/model") == "abc123"
    assert hub_revision("org/other") is None
    assert canonical({"name_or_path": "org/model"}) == {"name_or_path": "org/model", "revision": "abc123"}
