"""Several processes: the address at which they meet, and how their errors and metrics are reported."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from irexp.dataset.collection import DataError
from irexp.training.nodes import meeting_point, node_rank
from irexp.training.processes import own_errors
from irexp.training.strategy import Nodes
from irexp.training.tracking import relayed
from irexp.types import UserError


def raised_in_a_process(error: Exception, cause: Exception | None = None) -> None:
    """Raise the error that torch raises when a process that it started fails."""
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
def test_a_user_error_of_a_process_keeps_its_type_and_message(error: Exception, cause: Exception | None) -> None:
    """It is not reported as a traceback, whatever it was raised from."""
    with pytest.raises(type(error)) as found, own_errors():
        raised_in_a_process(error, cause)
    assert type(found.value) is type(error)
    assert str(found.value) == str(error)


@pytest.mark.parametrize("error", [ZeroDivisionError("irexp"), torch.AcceleratorError("no GPU")])
def test_any_other_error_keeps_its_traceback(error: Exception) -> None:
    """Even if it was raised from a UserError."""
    with pytest.raises(ProcessRaisedException, match=type(error).__name__), own_errors():
        raised_in_a_process(error, UserError("what came before"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ProcessExitedException("", 1, 2, exit_code=-9, signal_name="SIGKILL"), r"was killed \(SIGKILL\), for lack of"),
        (ProcessExitedException("", 1, 2, exit_code=3), "ended with status 3"),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), "machine.num_workers=0"),
        (
            RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"),
            r"DataLoader worker \(pid\(s\) 12, 13\)",
        ),
    ],
)
def test_a_killed_process_is_one_line(error: RuntimeError | ProcessExitedException, words: str) -> None:
    """It says what ended, why that may be, and what to change; the same command resumes."""
    with pytest.raises(UserError, match=words) as found, own_errors():
        raise error
    assert "\n" not in str(found.value) and "The same command resumes" in str(found.value)


def test_slurms_variables_are_ignored_with_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a Slurm job, child processes on one node must number themselves and meet on this machine."""
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
def test_nodes_of_a_slurm_job_meet_on_its_first_node(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[int, str, int]
) -> None:
    """Rank and address come from Slurm's variables, unless the user's variables override them."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    slurm = {"SLURM_NODEID": "1", "SLURM_JOB_NODELIST": "gpu[03-04,07]", "SLURM_JOB_ID": "8612678"}
    for name, value in (slurm | variables).items():
        monkeypatch.setenv(name, value)
    nodes = Nodes(2)
    assert (nodes.node_rank(), nodes.main_address, nodes.main_port) == expected
    assert (node_rank(2), *meeting_point()) == expected


@pytest.mark.parametrize("known", [{}, {"MASTER_ADDR": "10.0.0.7"}, {"MASTER_PORT": "29500"}])
def test_nodes_that_do_not_know_where_to_meet_are_refused(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, str]
) -> None:
    """Each would choose a port of its own, and wait for the others for ever."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_NODELIST", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="set MASTER_ADDR to the address of the first node and MASTER_PORT"):
        meeting_point()


def test_a_second_relay_adds_to_the_metrics_of_the_first(tmp_path: Path) -> None:
    """The tracker has the metrics of both relays of a job, in order."""
    tracker = CSVLogger(tmp_path, name=None, version="")
    for step in (1, 2):
        with relayed(tracker) as logger:
            logger.log_metrics({"train/loss": 0.5 / step}, step=step)
            logger.log_hyperparams({"seed": 1})
    tracker.finalize("success")
    assert (tmp_path / "metrics.csv").read_text().split() == ["step,train/loss", "1,0.5", "2,0.25"]
