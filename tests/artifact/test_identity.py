"""Identities: which changes of the configuration move them, and which do not."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from irexp.artifact import experiment as experiment_module
from irexp.artifact import identity
from irexp.artifact.content import content_digest, hub_revision
from irexp.artifact.experiment import Experiment
from irexp.artifact.identity import Identity, canonical, digest_in
from irexp.artifact.plan import draft_plan
from irexp.artifact.stages import KINDS, STAGES
from irexp.config.installation import CONF

_MAKING = [name for name, stage in STAGES.items() if stage.makes is not None]


def names_of(config: DictConfig) -> dict[str, str]:
    """The name of each artifact that a configuration makes, by kind."""
    plan, _ = draft_plan(Experiment((), config), _MAKING)
    return {step.artifact.kind: step.name for step in plan.own if step.artifact is not None}


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations are not checked here, so that they may hold invented settings."""
    monkeypatch.setattr(experiment_module, "check", lambda config: OmegaConf.to_container(config, resolve=True))


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
        ({"training__learning_rate": 1e-4}, {"checkpoint", "encoding", "index", "run", "scores", "measures", "speed"}),
        ({"seed": 1}, {"checkpoint", "encoding", "index", "run", "scores", "measures", "speed"}),
        ({"model__pooling": "cls"}, {"checkpoint", "encoding", "index", "run", "scores", "measures", "speed"}),
        ({"encoding__precision": "int8"}, {"encoding", "index", "run", "measures", "speed"}),
        ({"score__precision": "bfloat16"}, {"scores"}),
        ({"score__precision": "float32"}, set()),
        ({"re_rank__precision": "bfloat16"}, set()),
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
    assert {kind for kind in KINDS if kind in before and digest_in(before[kind]) != digest_in(after[kind])} == moved


def test_another_gpu_moves_the_speed_alone(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """`machine.accelerator=auto` is the same on machines with other cards; a processor's times depend on none."""
    config.machine.accelerator = "auto"
    without, on_processor = names_of(config), _names(config, machine__accelerator="cpu")
    for gpu in ("NVIDIA A100", "NVIDIA H100"):
        monkeypatch.setattr(identity, "usable_gpu", lambda gpu=gpu: gpu)
        found = names_of(config)
        assert {kind for kind in found if found[kind] != without[kind]} == {"speed"}
        assert _names(config, machine__accelerator="cpu") == on_processor
        without = found


OPTIONS = sorted(path.stem for path in (CONF / "index").glob("*.yaml"))


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values of a configuration, by dotted path."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        elif not key.startswith("_"):
            yield f"{path}{key}", value


@pytest.mark.parametrize("option", OPTIONS)
def test_build_settings_move_the_index_and_search_settings_only_the_run(
    compose: Callable[..., DictConfig], option: str
) -> None:
    """A setting that moves too little leads to stale results, one that moves too much builds the index again."""
    config = compose(f"index={option}")
    before = names_of(config)
    for path, value in _leaves(OmegaConf.to_container(config.index)):
        changed = config.copy()
        OmegaConf.update(changed, f"index.{path}", 7 if value != 7 else 8)
        moved = {kind for kind, name in names_of(changed).items() if before[kind] != name}
        later = {"run", "measures", "speed"}
        assert moved == (later if "search." in path else {"index", *later}), path


def test_query_length_moves_the_run_but_not_the_index(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    """With a given checkpoint, another query length does not encode the documents again."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    theirs = [f"artifact.checkpoint={tmp_path}"]
    one, two = compose(*theirs, "model.query_length=8"), compose(*theirs, "model.query_length=16")
    assert names_of(one)["index"] == names_of(two)["index"]
    assert names_of(one)["run"] != names_of(two)["run"]


def test_a_name_holds_kind_model_and_collection_and_ends_in_the_digest(config: DictConfig) -> None:
    """People recognise a folder by its name, and irexp by the digest."""
    name = names_of(config)["run"]
    assert name.startswith("run/sbert.toy-")
    assert len(digest_in(name) or "") == 8


def test_a_model_name_without_latin_letters_becomes_any(config: DictConfig) -> None:
    """With an empty model name the folder's name would begin with a dot, and the store would ignore it."""
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


def test_a_given_checkpoint_enters_by_its_content(config: DictConfig, tmp_path: Path) -> None:
    """Training settings do not move what is made from a checkpoint that was not trained here; its weights do."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    theirs = _names(config, artifact__checkpoint=str(folder))
    assert theirs["index"] == _names(config, artifact__checkpoint=str(folder), training__learning_rate=1.0)["index"]
    (folder / "model.safetensors").write_bytes(b"other")
    assert theirs["index"] != _names(config, artifact__checkpoint=str(folder))["index"]


def test_an_identifier_is_equivalent_to_the_artifact_that_it_names(config: DictConfig) -> None:
    """Naming the experiment's own checkpoint by its identifier leads to the same index."""
    names = _names(config)
    assert _names(config, artifact__checkpoint=names["checkpoint"])["index"] == names["index"]


def test_without_a_checkpoint_training_settings_move_no_run(config: DictConfig) -> None:
    """A learning rate does not move BM25's run."""
    nothing = {"artifact__checkpoint": None, "artifact__encoding": None}
    assert _names(config, **nothing)["run"] == _names(config, **nothing, training__learning_rate=1.0, seed=7)["run"]


def test_an_untrained_checkpoint_does_not_depend_on_the_collection(config: DictConfig) -> None:
    """Without training steps, neither the training data nor the learning rate moves the checkpoint; the model does."""
    untrained = {"training__steps": 0}
    before = _names(config, **untrained)["checkpoint"]
    assert _names(config, **untrained, training__learning_rate=1.0, dataset__train={"a": 2})["checkpoint"] == before
    assert _names(config, **untrained, model__pooling="cls")["checkpoint"] != before


@pytest.mark.parametrize(
    ("runs", "method", "version"), [(3, "wsum", 6), (2, "wsum", 5), (3, "sum", 5), (3, "wsum fuse.weights=[1,1,1]", 5)]
)
def test_only_fusions_whose_tuned_weights_may_be_others_have_a_raised_version(
    compose: Callable[..., DictConfig], runs: int, method: str, version: int
) -> None:
    """Earlier versions tried all weights of two runs, but not all of three."""
    listed = ",".join(f'["model=bm25","index.k1={number}"]' for number in range(runs))
    typed = ["model=fusion", f"fuse.runs=[{listed}]", *f"fuse.method={method}".split()]
    plan, _ = draft_plan(Experiment(tuple(typed), compose(*typed)), ["fuse"])
    (made,) = [step.artifact for step in plan.own if isinstance(step.artifact, Identity)]
    assert made.made_from["content_version"] == version


@pytest.mark.parametrize(("grade", "version"), [(None, 3), (1, 3), (2, 4)])
def test_only_trainings_from_a_higher_grade_have_a_raised_version(
    config: DictConfig, grade: int | None, version: int
) -> None:
    """Earlier versions learned from grade 1, whatever the training queries said, also within a mixture."""
    config.dataset.train = {"sets": {"a": {"examples": {"topics": {"relevance": grade}}}}}
    plan, _ = draft_plan(Experiment((), config), ["fit"])
    (made,) = [step.artifact for step in plan.own if isinstance(step.artifact, Identity)]
    assert made.made_from["content_version"] == version


def test_canonical_drops_nulls_and_names_and_keeps_the_class_name() -> None:
    """An integer written as a float, a null or a moved module must not change a digest."""
    value = {"_target_": "a.b.C", "_partial_": True, "name": "x", "k": 1.0, "n": None, "l": [1.0, 0.5]}
    assert canonical(value) == {"_target_": "C", "k": 1, "l": [1, 0.5]}
    assert json.dumps(canonical({"flag": True})) == '{"flag": true}'


@pytest.mark.parametrize("name", ["name", "_partial_", "_convert_", "_recursive_"])
def test_a_set_of_any_name_enters(name: str) -> None:
    """A training set of a mixture may be called as the key of a name for display."""
    one, other = ({"sets": {name: {"weight": weight, "name": "shown"}}} for weight in (1, 2))
    assert canonical(one) == {"sets": {name: {"weight": 1}}} != canonical(other)


def test_folder_digests_ignore_hidden_files_and_include_names(tmp_path: Path) -> None:
    """A renamed file changes a folder's digest, a hidden one does not."""
    (tmp_path / "a").write_text("x")
    before = content_digest(tmp_path)
    (tmp_path / ".cache").write_text("y")
    assert content_digest(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert content_digest(tmp_path) != before


def test_a_folders_digest_follows_links(tmp_path: Path) -> None:
    """What is read through a link to a folder or a file decides it; a link to a folder above is not followed."""
    (tmp_path / "elsewhere").mkdir()
    config = tmp_path / "elsewhere" / "config.json"
    config.write_text("mean")
    model = tmp_path / "model"
    model.mkdir()
    (model / "1_Pooling").symlink_to(config.parent)
    (model / "above").symlink_to(tmp_path)
    before = content_digest(model)
    (tmp_path / "beside").write_text("x")
    assert content_digest(model) == before
    config.write_text("cls")
    assert content_digest(model) != before
    (model / "1_Pooling").unlink()
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text("mean")
    (model / "above").unlink()
    config.unlink()
    whole = content_digest(model)
    (model / "1_Pooling" / "config.json").rename(config)
    (model / "1_Pooling").rmdir()
    (model / "1_Pooling").symlink_to(config.parent)
    assert content_digest(model) == whole


def test_a_hub_model_enters_by_the_commit_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newly fetched commit moves the identity of what is made from the model."""
    references = tmp_path / "models--org--model" / "refs"
    references.mkdir(parents=True)
    (references / "main").write_text("abc123")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert hub_revision("org/model") == "abc123"
    assert hub_revision("org/other") is None
    assert canonical({"name_or_path": "org/model"}) == {"name_or_path": "org/model", "revision": "abc123"}
