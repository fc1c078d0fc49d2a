"""Several processes: where they find one another, and what of them comes back."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.multiprocessing.spawn import ProcessRaisedException

from irexp.dataset.collection import DataError
from irexp.training.processes import Nodes, own_errors
from irexp.training.tracking import finish, relayed
from irexp.types import UserError


def raised_in_a_process(error: Exception, cause: Exception | None = None) -> None:
    """Raise what torch raises when a process it started ends with an error."""
    try:
        raise error from cause
    except Exception:
        message = f"\n\n-- Process 1 terminated with the following error:\n{traceback.format_exc()}"
    raise ProcessRaisedException(message, 1, 1234)


@pytest.mark.parametrize(
    "error",
    [
        UserError("lower training.learning_rate"),
        UserError("several faults:\n  one: irexp.types\n  two"),
        DataError("no example"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
@pytest.mark.parametrize("cause", [None, UserError("what came before"), KeyError("q1")])
def test_an_error_for_the_user_comes_back_as_itself(error: Exception, cause: Exception | None) -> None:
    """The same type with the same words, and not a traceback, whatever it was raised from."""
    with pytest.raises(type(error)) as found, own_errors():
        raised_in_a_process(error, cause)
    assert type(found.value) is type(error)
    assert str(found.value) == str(error)


@pytest.mark.parametrize("error", [ZeroDivisionError("irexp"), torch.AcceleratorError("no GPU")])
def test_any_other_error_keeps_its_traceback(error: Exception) -> None:
    """Also where it was raised from one for the user."""
    with pytest.raises(ProcessRaisedException, match=type(error).__name__), own_errors():
        raised_in_a_process(error, UserError("what came before"))


def test_inside_a_slurm_job_of_one_node_nothing_is_taken_from_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started here number themselves and meet on this machine."""
    for name, value in {"SLURM_NTASKS": "1", "SLURM_NODEID": "3", "SLURM_JOB_NODELIST": "far[3-4]"}.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    nodes = Nodes(1)
    nodes.set_global_rank(1)
    assert (nodes.node_rank(), nodes.main_address, nodes.global_rank()) == (0, "127.0.0.1", 1)
    assert not nodes.creates_processes_externally
    nodes.set_global_rank(0)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (1, "gpu03", 17_678)),
        ({"MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "29500"}, (1, "10.0.0.7", 29_500)),
        ({"NODE_RANK": "0"}, (0, "gpu03", 17_678)),
    ],
    ids=["Slurm", "an address", "a rank"],
)
def test_nodes_of_a_slurm_job_meet_on_its_first(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[int, str, int]
) -> None:
    """Slurm's variables say which node this is and where the first one is, unless the user's say otherwise."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    slurm = {"SLURM_NODEID": "1", "SLURM_JOB_NODELIST": "gpu[03-04,07]", "SLURM_JOB_ID": "8612678"}
    for name, value in (slurm | variables).items():
        monkeypatch.setenv(name, value)
    nodes = Nodes(2)
    assert (nodes.node_rank(), nodes.main_address, nodes.main_port) == expected


def test_a_tracker_keeps_what_was_logged_through_a_relay_before(tmp_path: Path) -> None:
    """One tracker has it all, in its order; a second relay of the same job adds to it."""
    tracker = CSVLogger(tmp_path, name=None, version="")
    for step in (1, 2):
        with relayed(tracker) as logger:
            logger.log_metrics({"train/loss": 0.5 / step}, step=step)
            logger.log_hyperparams({"seed": 1})
    finish(tracker)
    assert (tmp_path / "metrics.csv").read_text().split() == ["step,train/loss", "1,0.5", "2,0.25"]
