"""Sharded training on two processes: its steps are those of one process, and it resumes other trainings.

Run as a program, this module is one of two processes that train a step of each kind with each strategy.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.strategies import Strategy

from irexp.training.sharding import ShardedStrategy
from irexp.training.zero import ZeroStrategy
from tests.training.eight import Eight, Listed
from tests.training.test_learned_scale import summed
from tests.training.test_two_processes import assert_step_of_one_process, on_two_processes, one_process
from tests.trainings import SMALL, Compose, weights

#: Of `test_two_processes.CASES`: token vectors; a penalty; and queries with so many documents that one process encodes
#: two chunks of them, and the other three.
KINDS = ("colbert, in chunks", "dense, FLOPS of own documents", "dense, RankNet, in chunks")


#: With targets that a teacher could have given.
EXAMPLES = Listed(
    ("q3", ("d4", "d6", "d0"), (4.0, 1.0, 0.5)),
    ("q4", ("d5", "d7", "d2"), (3.0, 2.5, 0.0)),
    ("q3", ("d4", "d1", "d0"), (4.0, 1.0, 0.5)),
    ("q4", ("d5", "d3", "d2"), (3.0, 2.5, 0.0)),
)

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="the extra deepspeed is not installed"
)


class InThisProcess(ShardedStrategy):
    """FSDP2 in processes that the test has started."""

    def _configure_launcher(self) -> None:
        self._launcher = None


class ZeroInThisProcess(ZeroStrategy):
    """ZeRO in processes that the test has started."""

    def _configure_launcher(self) -> None:
        self._launcher = None


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "fsdp": lambda: InThisProcess(2),
    "deepspeed": lambda: ZeroInThisProcess(2),
    "deepspeed_stage_3": lambda: ZeroInThisProcess(3),
}

#: The strategies, as parameters of a test.
PARAMETERS = [pytest.param(name, marks=() if name == "fsdp" else needs_deepspeed) for name in STRATEGIES]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one step on two processes found, per strategy and kind."""
    return on_two_processes("tests.training.test_sharding", tmp_path_factory.mktemp("sharded"))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", PARAMETERS)
def test_a_sharded_step_equals_the_step_of_one_process(strategy: str, two_processes: Path) -> None:
    """The weights that are gathered from both processes, and the loss, up to the order in which numbers are summed."""
    for kind in KINDS:
        assert_step_of_one_process(kind, two_processes / strategy / f"{kind}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", PARAMETERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_sharded_training_resumes_what_another_strategy_began(
    strategy: str, compose: Compose, tmp_path: Path
) -> None:
    """It ends with the same weights and learned scale, and saves the same state of the optimizer as that strategy.

    Two batches are accumulated per step, gradients are clipped, and the weights come back from the processes without a
    validation that would write them.
    """
    scales = {}
    for name in ("whole", "sharded", "resumed"):
        (tmp_path / name).mkdir()
        if name == "resumed":
            (tmp_path / name / ".training").mkdir()
            saved = (tmp_path / "whole" / ".training" / "last.ckpt").read_bytes()
            (tmp_path / name / ".training" / "last.ckpt").write_bytes(saved)
        loss, learned = summed()
        how = "ddp_spawn" if name == "whole" else strategy
        chosen = ("machine=cpu", "machine.devices=2", f"machine.strategy={how}", "machine.resume_every=4")
        settings = ("training.validate_every=null", "training.steps=6", "training.batch_size=4", "model=sbert")
        accumulated = ("training.accumulate_batches=2", "training.clip_norm=0.05")
        call = instantiate(compose(*SMALL, *settings, *accumulated, *chosen).stage.fit, _convert_="object")
        call(tmp_path / name, documents=Eight(), train=EXAMPLES, dev=None, loss=loss)
        scales[name] = learned.scale.value
    assert abs(scales["whole"] / 2 - 1) > 0.01
    one, two = (
        torch.load(tmp_path / name / ".training" / "last.ckpt", weights_only=True) for name in ("whole", "sharded")
    )
    assert two["global_step"] == 4
    assert two["state_dict"].keys() == one["state_dict"].keys()
    (old,), (new,) = one["optimizer_states"], two["optimizer_states"]
    assert new["param_groups"] == old["param_groups"]
    torch.testing.assert_close(new["state"], old["state"], rtol=1e-3, atol=1e-5)
    for name in ("sharded", "resumed"):
        assert scales[name] == pytest.approx(scales["whole"], rel=1e-4)
        found, expected = weights(tmp_path / name), weights(tmp_path / "whole")
        assert found.keys() == expected.keys()
        for key in found:
            if not key.endswith("key.bias"):
                torch.testing.assert_close(found[key], expected[key], rtol=0, atol=2e-4, msg=key)


if __name__ == "__main__":
    has_deepspeed = importlib.util.find_spec("deepspeed") is not None
    for name in STRATEGIES if has_deepspeed else ("fsdp",):
        (Path(sys.argv[2]) / name).mkdir(exist_ok=True)
        one_process(int(sys.argv[1]), f"{sys.argv[2]}/{name}", int(sys.argv[3]), KINDS, STRATEGIES[name])
