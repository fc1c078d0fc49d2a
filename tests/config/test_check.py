"""The check of a composed configuration against its records."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from irexp.config.check import ConfigError, check, config_faults, near
from irexp.config.limits import CHOICES, MEASURES, RANGES
from irexp.config.schema import RECORDS, Config, RayResources, Resources

Compose = Callable[..., DictConfig]


@pytest.fixture
def untyped(compose: Compose) -> DictConfig:
    """The default configuration without types, so that it may hold faults."""
    plain = OmegaConf.create(OmegaConf.to_container(compose(), resolve=False))
    assert isinstance(plain, DictConfig)
    return plain


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("training.steps", -5, "training.steps: -5 is out of range; it must be at least 0"),
        ("training.steps", 0, None),
        ("training.steps", "x", "training.steps: Value 'x' of type 'str' could not be converted to Integer"),
        ("training.epochs", None, None),
        ("machine.threads", 0, "machine.threads: 0 is out of range; it must be at least 1"),
        ("search.depth", 0, "search.depth: 0 is out of range; it must be at least 1"),
        ("evaluation.alpha", 5, "evaluation.alpha: 5.0 is out of range; it must be from 0 to 1"),
        ("seed", -1, "seed: -1 is out of range; it must be from 0 to 4294967295"),
        ("training.precision", "bf16", "training.precision: 'bf16' is not a choice; did you mean bf16-mixed?"),
        ("fuse.method", "${dataset.name}", "fuse.method: 'aws_howto' is not a choice"),
        ("search.depth", "${training.validate_every}", None),
        ("rows", {2019: []}, "rows: the name 2019 is a number; write it in quotes"),
        ("rows", {True: []}, "rows: the name True is a truth value (yes, no, on, off); write it in quotes"),
        ("dataset.train.sets", {2019: {}}, "dataset.train.sets: the name 2019 is a number; write it in quotes"),
        ("validation", {2019: {}}, "validation: the name 2019 is a number; write it in quotes"),
        ("baselines", [[{1: "a"}]], "baselines[0][0]: the name 1 is a number; write it in quotes"),
        ("search.depth", "${training.epochs}", "search.depth: "),
        ("teacher.scores", "", "teacher.scores: is empty; give a value, or null for none"),
        ("artifact.run", "", "artifact.run: is empty; give a value, or null for none"),
        ("search.exclude_path", " ", "search.exclude_path: is empty; give a value, or null for none"),
        ("training.select_by", "nDGC@10", "training.select_by: there is no measure 'nDGC@10' (did you mean nDCG@10?)"),
        ("evaluation.measures", ["AP", "nDCG@0"], "evaluation.measures: the cutoff of 'nDCG@0' must be a number"),
        ("fuse.measure", "MAPP", "fuse.measure: there is no measure 'MAPP' (did you mean MAP?)"),
        ("training.stepps", 3, "training.stepps: Training has no 'stepps'; did you mean steps?"),
        ("trainning", {}, "trainning: there is no such key; did you mean training?"),
        ("search", None, "search: must hold the keys of Search, not None"),
        ("search.depth", "???", "search.depth: needs a value, as search.depth=…"),
        ("baselines", [["a"], 3], "baselines: "),
    ],
)
def test_a_wrong_plain_value_is_one_fault(untyped: DictConfig, key: str, value: Any, fault: str | None) -> None:
    """A wrong type, range, choice, measure or key is exactly one fault, and a right value none."""
    OmegaConf.update(untyped, key, value, merge=False, force_add=True)
    found = config_faults(untyped)
    assert (found == []) if fault is None else (len(found) == 1 and found[0].startswith(fault)), found


def test_a_missing_key_without_a_default_is_a_fault(untyped: DictConfig) -> None:
    """A key that has a default may be missing."""
    del untyped.training["steps"], untyped.artifact["index"]
    assert config_faults(untyped) == ["training.steps: Training needs it"]


def test_the_measure_of_stage_tune_is_checked(compose: Compose) -> None:
    """A misspelt measure would otherwise fail only after the searches."""
    with pytest.raises(ConfigError, match=r"stage\.tune\.measure: there is no measure 'MAPP'"):
        check(compose("stage=tune", "stage.tune.measure=MAPP"))
    check(compose("stage=tune"))


@pytest.mark.parametrize(
    ("grade", "measures", "fault"),
    [
        (0, "[nDCG@10]", r"dataset\.test\.relevance=0: the smallest relevant grade is at least 1"),
        (2, "['RR(rel=1)@10']", r"RR@10 counts from grade 1, which its printed name omits"),
        (2, "['RR(rel=2)@10',nDCG@10,R@100]", None),
    ],
)
def test_measures_that_cannot_count_from_the_grade_are_faults(
    compose: Compose, grade: int, measures: str, fault: str | None
) -> None:
    """Else only the evaluation would say so, after everything else."""
    config = compose(
        "dataset=local", "dataset.path=x", f"dataset.test.relevance={grade}", f"evaluation.measures={measures}"
    )
    if fault is None:
        check(config)
    else:
        with pytest.raises(ConfigError, match=rf"evaluation\.measures: {fault}"):
            check(config)


def test_choices_ranges_and_measures_are_of_existing_keys() -> None:
    """A check of a renamed key would never run; and each number of a record has a range."""
    records = RECORDS | {"hydra.launcher.default": Resources}
    keys = {f"{name}.{each.name}": each.type for name, record in records.items() for each in dataclasses.fields(record)}
    keys |= {f"hydra.launcher.default.{each.name}": each.type for each in dataclasses.fields(RayResources)}
    launchers = ("workers", "shares", "seconds", "retries")  # of tests/config/test_hydra_node.py
    keys |= {f"hydra.launcher.{name}": int for name in launchers}
    assert CHOICES.keys() | RANGES.keys() <= keys.keys() | Config.__dataclass_fields__.keys()
    assert set(MEASURES) - keys.keys() == {"stage.tune.measure"}
    numbers = {key for key, kind in keys.items() if kind in (int, float, int | None, float | None)}
    assert numbers - RANGES.keys() == set()
    assert len(numbers) >= 25


def test_the_nearest_spelling_or_the_choices() -> None:
    """A near miss gets the nearest spelling, any other word all choices."""
    assert near("colbrt", ["colbert", "splade"]) == "; did you mean colbert?"
    assert near("xyz", ["colbert", "splade"]) == "; there are colbert, splade"


def test_a_configuration_that_changes_after_a_check_is_checked_again(compose: Compose) -> None:
    """What was found right before is known by its contents, wherever an interpolation leads."""
    config = compose("training.steps=${search.depth}")
    values = check(config)
    assert values["training"]["steps"] == values["search"]["depth"] == config.search.depth
    assert check(compose("training.steps=${search.depth}")) == values
    config.search.depth = 0
    with pytest.raises(ConfigError, match=r"search\.depth: 0 is out of range"):
        check(config)
