"""A value from the environment may be a secret: it is used, but only its digest and its name are recorded."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from irexp.artifact.experiment import Experiment
from irexp.artifact.plan import Plan
from tests.chains import planned, run, settings

Compose = Callable[..., DictConfig]

SECRET = "hunter2xyz"


def _named_by(*names: str) -> list[str]:
    """Overrides that take the model's name, a prompt and a number from the environment."""
    name, prefix, seed = names
    return [
        f"model.name=${{oc.env:{name}}}",
        f"model.query_prompt='${{oc.env:{prefix}}}: '",
        f"seed=${{oc.env:{seed}}}",
    ]


@pytest.fixture
def overrides(tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A configuration with a name, a prompt, a number and a path from the environment."""
    monkeypatch.setenv("WORD", SECRET)
    monkeypatch.setenv("NUMBER", "7")
    monkeypatch.setenv("COLLECTION", str(collection))
    own = [each for each in settings(tmp_path, collection) if not each.startswith("dataset.path")]
    return [*own, "dataset.path=${oc.env:COLLECTION}", *_named_by("WORD", "WORD", "NUMBER")]


def _digests(plan: Plan) -> list[str]:
    return [step.name[-8:] for step in plan.own]


def test_no_file_of_an_artifact_tells_a_value_of_the_environment(
    tmp_path: Path, overrides: list[str], compose: Compose
) -> None:
    """Manifests and the card hold `${oc.env:WORD}`; the value is in no name and in no recorded setting."""
    run(compose, overrides)
    manifests = list((tmp_path / "artifacts").glob("*/*/manifest.json"))
    assert len(manifests) == 5
    texts = [path.read_text() for path in (*manifests, *(tmp_path / "artifacts").glob("checkpoint/*/README.md"))]
    assert all(SECRET not in text and "${oc.env:WORD}" in text for text in texts)
    assert not list((tmp_path / "artifacts").glob(f"**/*{SECRET}*"))


def test_the_value_is_used_and_decides_the_identity(
    overrides: list[str], compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another value makes other artifacts, another variable with the same value the same ones."""
    experiment = Experiment(tuple(overrides), compose(*overrides))
    assert (experiment.values["model"]["query_prompt"], experiment.values["seed"]) == (f"{SECRET}: ", 7)
    assert experiment.recorded["seed"] == 7  # a number is not a secret; seeds are averaged by it
    before = _digests(planned(compose, overrides))
    monkeypatch.setenv("OTHER", SECRET)
    renamed = [*overrides[:-2], "model.query_prompt='${oc.env:OTHER}: '", overrides[-1]]
    assert _digests(planned(compose, renamed)) == before
    monkeypatch.setenv("OTHER", "else")
    assert _digests(planned(compose, renamed)) != before


def test_a_path_from_the_environment_is_identified_by_its_content(
    overrides: list[str], collection: Path, compose: Compose
) -> None:
    """The same collection makes the same artifacts, however its folder is named."""
    typed = [f"dataset.path={collection}" if "COLLECTION" in each else each for each in overrides]
    assert _digests(planned(compose, typed)) == _digests(planned(compose, overrides))


def test_a_configuration_without_the_environment_is_recorded_as_it_is(compose: Compose) -> None:
    """Nothing is resolved twice, and no value changes its form."""
    experiment = Experiment((), compose())
    assert experiment.recorded == experiment.values
