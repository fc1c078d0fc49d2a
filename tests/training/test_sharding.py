"""Sharded training on two processes: its steps are those of one process, and it resumes other trainings.

Run as a program, this module is one of two processes that train a step of each kind.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from irexp.training.sharding import ShardedStrategy
from tests.training.eight import Eight
from tests.training.test_learned_scale import summed
from tests.training.test_losses_and_families import TAUGHT
from tests.training.test_two_processes import assert_step_of_one_process, on_two_processes, one_process
from tests.trainings import SMALL, Compose, weights

#: Of `test_two_processes.CASES`: token vectors; a penalty; and queries with so many documents that one process encodes
#: two chunks of them, and the other three.
KINDS = ("colbert, in chunks", "dense, FLOPS of own documents", "dense, RankNet, in chunks")


class InThisProcess(ShardedStrategy):
    """The same strategy, in processes that the test has started."""

    def _configure_launcher(self) -> None:
        self._launcher = None


@pytest.mark.slow
def test_a_sharded_step_equals_the_step_of_one_process(tmp_path: Path) -> None:
    """The weights that are gathered from both processes, and the loss, up to the order in which numbers are summed."""
    folder = on_two_processes("tests.training.test_sharding", tmp_path)
    for kind in KINDS:
        assert_step_of_one_process(kind, folder / f"{kind}.pt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_sharded_training_resumes_what_another_strategy_began(compose: Compose, tmp_path: Path) -> None:
    """It ends with the same weights and learned scale, and saves the same state of the optimizer as that strategy.

    Gradients are clipped, and the weights come back from the processes without a validation that would write them.
    """
    scales = {}
    for name, strategy in (("whole", "ddp_spawn"), ("sharded", "fsdp"), ("resumed", "fsdp")):
        (tmp_path / name).mkdir()
        if name == "resumed":
            (tmp_path / name / ".training").mkdir()
            saved = (tmp_path / "whole" / ".training" / "last.ckpt").read_bytes()
            (tmp_path / name / ".training" / "last.ckpt").write_bytes(saved)
        loss, learned = summed()
        chosen = ("machine=cpu", "machine.devices=2", f"machine.strategy={strategy}", "machine.resume_every=4")
        settings = ("training.validate_every=null", "training.steps=6", "training.batch_size=2", "model=sbert")
        call = instantiate(compose(*SMALL, *settings, *chosen).stage.fit, _convert_="object")
        call(tmp_path / name, documents=Eight(), train=TAUGHT, dev=None, loss=loss)
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
    one_process(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), KINDS, lambda: InThisProcess(2))
