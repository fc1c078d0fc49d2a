"""Configurations that are composed from remembered options are those that Hydra composes at once."""

from __future__ import annotations

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from irexp.config.composition import composed_config
from irexp.config.installation import CONF


def at_once(overrides: list[str]) -> DictConfig:
    """What Hydra composes."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra_compose("config", overrides=overrides, return_hydra_config=True)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["training.steps=4", "seed=3", "dry_run=true"],
        ["model=splade", "model.pooling=sum", "loss=[info_nce,margin_mse]", "stage=[fit,search]"],
        ["dataset=local", "dataset.path='a=b'", "index=plaid", "~dataset.documents.path", "+backbone.more={a: [1, b]}"],
        [
            "experiment=lightning_ir_table_2",
            "mean=true",
            "evaluation.measures=[RR@10]",
            "hydra.verbose=true",
        ],
        ["hydra/launcher=graph", "dataset.query_length=null", "dataset.query_length=8", "++dataset.test.relevance=2"],
    ],
)
def test_options_and_values_compose_what_hydra_composes(overrides: list[str]) -> None:
    """Values, types, missing values, interpolations and chosen options, twice, since the second time is remembered."""
    expected = at_once(overrides)
    for _ in range(2):
        config, choices = composed_config(overrides)
        assert choices == {str(group): str(option) for group, option in expected.hydra.runtime.choices.items()}
        assert OmegaConf.to_yaml(config) == OmegaConf.to_yaml(OmegaConf.masked_copy(expected, list(map(str, config))))
        assert set(expected) - set(config) == {"hydra"}
        assert OmegaConf.is_struct(config) and OmegaConf.get_type(config.training) is OmegaConf.get_type(
            expected.training
        )


def test_what_is_set_in_one_configuration_is_not_in_the_next() -> None:
    """Each caller has a copy."""
    config, _ = composed_config(["training.steps=5"])
    config.training.batch_size = 999
    assert composed_config(["training.steps=5"])[0].training.batch_size != 999
    assert composed_config([])[0].training.steps != 5


@pytest.mark.parametrize(
    "overrides", [["training.stepz=4"], ["training.steps=a"], ["model=nonesuch"], ["training.steps=1,2"], ["a.b=("]]
)
def test_what_does_not_compose_is_refused_as_hydra_refuses_it(overrides: list[str]) -> None:
    """With the same message."""
    with pytest.raises(HydraException) as expected:
        at_once(overrides)
    with pytest.raises(HydraException) as found:
        composed_config(overrides)
    assert str(found.value) == str(expected.value)
