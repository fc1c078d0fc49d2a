"""A list of losses composes their weighted sum, typed or in a file, and its parts are checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from irexp.config.check import ConfigError, config_faults
from irexp.config.command_line import check_command_line
from irexp.config.installation import CONF
from irexp.loss.weighted_sum import WeightedSum
from irexp.types import UserError
from tests.loss.test_own_documents import ALL

Compose = Callable[..., DictConfig]


def test_a_list_composes_the_weighted_sum_of_its_losses(compose: Compose) -> None:
    """Each loss keeps its own settings, which have keys of their own, and so have the weights."""
    config = compose(
        "loss=[kl_divergence,margin_mse]", "loss.weights.margin_mse=0.05", "loss.losses.kl_divergence.temperature=2"
    )
    assert config_faults(config) == []
    loss = instantiate(config.loss, _convert_="object")
    assert isinstance(loss, WeightedSum)
    assert [(part.name, part.weight, type(part.loss).__name__) for part in loss.parts()] == [
        ("kl_divergence", 1.0, "KLDivergence"),
        ("margin_mse", 0.05, "MarginMSE"),
    ]
    assert loss.losses["kl_divergence"].temperature == 2


def test_a_list_wins_over_the_models_own_loss_and_one_loss_is_itself(compose: Compose) -> None:
    """ColBERT's own loss is replaced; a list of one is the loss, with the same keys as ever."""
    config = compose("model=colbert", "loss=[kl_divergence,info_nce_dot]")
    assert list(config.loss.losses) == ["kl_divergence", "info_nce_dot"]
    assert instantiate(config.loss, _convert_="object").in_batch
    assert compose("loss=[info_nce]").loss == compose("loss=info_nce").loss


def test_a_file_lists_losses_as_the_command_line_does(tmp_path: Path, compose: Compose) -> None:
    """An experiment's defaults may override the loss by a list, and set weights; the command line changes them."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "distil.yaml").write_text(
        "# @package _global_\n# Two losses.\n"
        "defaults:\n  - override /loss: [kl_divergence, margin_mse]\n  - _self_\n"
        "loss:\n  weights: {margin_mse: 0.05}\n"
    )
    here = f"hydra.searchpath=[file://{tmp_path}]"
    config = compose(here, "experiment=distil")
    assert config.loss.weights == {"kl_divergence": 1.0, "margin_mse": 0.05}
    assert compose(here, "experiment=distil", "loss.weights.margin_mse=2").loss.weights.margin_mse == 2
    with pytest.raises(ConfigError, match=r"loss\.weights\.margin_ms: there is no such key; did you mean margin_mse\?"):
        check_command_line([here, "experiment=distil", "loss.weights.margin_ms=2"], CONF)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["loss=[kl_divergence,margin_mze]"],
            r"loss=margin_mze: there is no such option .*; did you mean margin_mse\?",
        ),
        (["loss=[kl_divergence,kl_divergence]"], r"loss=\[kl_divergence,kl_divergence\]: name one or more losses"),
        (
            ["loss=[lce,rank_net]", "loss.weights.rank_nett=2"],
            r"rank_nett: there is no such key; did you mean rank_net",
        ),
        (
            ["loss=[lce,rank_net]", "loss.losses.lce.temprature=2"],
            r"temprature: there is no such key; did you mean temp",
        ),
    ],
)
def test_what_is_wrong_in_a_list_is_said_in_one_line(arguments: list[str], message: str) -> None:
    """An unknown loss, one named twice, and an unknown weight or setting."""
    with pytest.raises(ConfigError, match=message) as raised:
        check_command_line(arguments, CONF)
    assert len(raised.value.faults) == 1


def test_the_command_line_accepts_lists_and_sweeps_over_them() -> None:
    """One list, and a sweep over a loss and a list."""
    check_command_line(["loss=[lce,rank_net]", "loss.weights.rank_net=0.5"], CONF)
    check_command_line(["-m", "loss=lce,[lce,rank_net]"], CONF)


def test_weights_are_of_the_losses_of_the_sum() -> None:
    """In Python, too, an unknown name and a negative weight are refused."""
    losses = {"kl": ALL["KLDivergence"], "mse": ALL["MarginMSE"]}
    with pytest.raises(UserError, match=r"loss\.weights\.ms: there is no such loss in the sum; there are kl, mse"):
        WeightedSum(losses, weights={"ms": 1.0})
    with pytest.raises(UserError, match=r"loss\.weights\.kl=-1"):
        WeightedSum(losses, weights={"kl": -1.0})
    with pytest.raises(UserError, match="at least one loss"):
        WeightedSum({})


def test_the_stored_option_is_not_changed_by_a_composition(compose: Compose) -> None:
    """A weight of one job is not that of the next."""
    assert compose("loss=[lce,rank_net]", "loss.weights.lce=3").loss.weights.lce == 3
    again = OmegaConf.to_container(compose("loss=[lce,rank_net]").loss.weights)
    assert again == {"lce": 1.0, "rank_net": 1.0}
