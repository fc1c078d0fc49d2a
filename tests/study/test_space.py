"""The search space: each kind of sweep becomes the distribution that draws its values."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from optuna import create_study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from irexp.config.check import ConfigError
from irexp.config.command_line import check_command_line
from irexp.config.installation import CONF
from irexp.config.resolvers import register_resolvers
from irexp.study.space import Space, parse_space
from irexp.types import UserError


def _space(*typed: str, params: dict[str, Any] | None = None) -> Space:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return parse_space(typed, params or {}, loader)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("interval(1,5)", FloatDistribution(1, 5)),
        ("tag(log,interval(1e-5,1e-3))", FloatDistribution(1e-5, 1e-3, log=True)),
        ("int(interval(1,5))", IntDistribution(1, 5)),
        ("tag(int,interval(1,5))", IntDistribution(1, 5)),
        ("tag(int,log,interval(1,64))", IntDistribution(1, 64, log=True)),
        ("range(1,10,3)", IntDistribution(1, 7, step=3)),
        ("range(0.1,0.5,0.1)", FloatDistribution(0.1, 0.4, step=0.1)),
        ("a,b", CategoricalDistribution(["a", "b"])),
        ("choice([1,2],[3])", CategoricalDistribution(["[1,2]", "[3]"])),
    ],
)
def test_each_kind_of_sweep_has_its_distribution(value: str, expected: object) -> None:
    """An interval includes both ends, a range leaves its end out as in Python, choices are kept as texts."""
    assert dict(_space(f"key={value}").swept) == {"key": expected}


def test_glob_chooses_among_the_options() -> None:
    """The files of the group are the choices."""
    assert _space("model=glob([dpr,bm*])").swept == {"model": CategoricalDistribution(["bm25", "dpr"])}


def test_what_is_typed_replaces_what_a_file_sweeps() -> None:
    """A key of both is taken from the command line, and what has one value is part of every trial."""
    space = _space("seed=3", "model=a,b", params={"seed": "1,2", "+index.x": "interval(0,1)", "search.depth": 5})
    assert space.fixed == ("seed=3", "search.depth=5")
    assert set(space.swept) == {"model", "+index.x"}
    assert space.overrides({"model": "a", "+index.x": 0.5}) == ["seed=3", "search.depth=5", "+index.x=0.5", "model=a"]


def test_a_multiple_of_a_step_is_typed_without_its_rounding_error() -> None:
    """Otherwise 0.1 + 0.2 would have another identity than 0.3."""
    space = _space("key=range(0.1,0.5,0.1)")
    assert 0.1 * 3 != 0.3
    assert space.overrides({"key": 0.1 * 3}) == ["key=0.3"]


def test_drawn_values_are_within_the_space() -> None:
    """Optuna draws whole numbers for range, and every drawn value is one that range lists."""
    space = _space("key=range(2,20,5)")
    study = create_study()
    assert {study.ask(dict(space.swept)).params["key"] for _ in range(40)} == {2, 7, 12, 17}


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("seed=1", "nothing is swept; give a key several values"),
        ("key=tag(lg,interval(1,2))", "the tag lg has no meaning here; there are log and int"),
        ("key=tag(log,interval(0,1))", "key=tag(log,interval(0,1)): `low > 0` must hold"),
        ("key=interval(2,1)", "key=interval(2,1): `low <= high` must hold"),
        ("key=tag(log,choice(1,2))", "log and int are tags of an interval or a range"),
        ("key=range(5,5)", "key=range(5,5): this chooses no value"),
    ],
)
def test_what_cannot_be_sampled_is_refused_by_name(typed: str, words: str) -> None:
    """The line repeats what was typed."""
    with pytest.raises(UserError) as error:
        _space(typed)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_option_of_the_sweeper_is_checked_against_its_class() -> None:
    """A misspelt key of hydra.sweeper is a fault before anything is run."""
    register_resolvers()
    base = ["-m", "hydra/sweeper=optuna", "search.depth=range(1,9)"]
    check_command_line([*base, "hydra.sweeper.sampler._target_=optuna.samplers.RandomSampler"], CONF)
    for wrong, words in (
        ("hydra.sweeper.trails=3", "did you mean trials?"),
        ("hydra.sweeper.direction=maximise", "did you mean maximize?"),
        ("hydra.sweeper.sampler._target_=optuna.samplers.TPESampeler", "cannot be found"),
        ("hydra.sweeper.pruner._target_=optuna.samplers.TPESampler", "it must be"),
        ("objective=nDCG@10", "objective: nDCG@10 is not a list; write objective=[nDCG@10]"),
    ):
        with pytest.raises(ConfigError) as error:
            check_command_line([*base, wrong], CONF)
        assert words in str(error.value)
