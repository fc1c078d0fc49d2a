"""The output folder belongs to one command at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from hydra.core.utils import setup_globals
from omegaconf import OmegaConf

from irexp.artifact.disk import hold_lock
from irexp.config.installation import CONF
from irexp.stage.output import LOCK, OutputFolder, release, running_sweep


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    """Other tests of this process hold nothing."""
    yield
    release()


def start(key: str, folder: Path | str, nodes: int = 1) -> None:
    """Begin a command, by the key of its folder."""
    setup_globals()
    config = OmegaConf.create({"machine": {"num_nodes": nodes}, "hydra": {"job": {"name": "irexp"}}})
    OmegaConf.update(config, key, str(folder))
    begin = OutputFolder().on_run_start if key == "hydra.run.dir" else OutputFolder().on_multirun_start
    begin(config)


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
def test_a_second_command_in_the_same_folder_is_refused(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the first one has ended; the message names the process. Further nodes of one command share its folder."""
    with hold_lock(tmp_path / LOCK, "the folder of another command") as lock:
        lock.write("process 5 on elsewhere")
        lock.flush()
        with pytest.raises(SystemExit, match=rf"{key}=\S+: another command is writing there, process 5 on elsewhere;"):
            start(key, tmp_path)
        assert running_sweep() is None
        with monkeypatch.context() as node:
            node.setenv("NODE_RANK", "1")
            start(key, tmp_path, nodes=2)
    start(key, tmp_path)
    assert running_sweep() == (tmp_path if key == "hydra.sweep.dir" else None)
    assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    start(key, tmp_path)  # the first command failed, in this same process


def test_what_a_command_leaves_behind_blocks_nobody(tmp_path: Path) -> None:
    """A process that it has forked would hold its lock as long as it lives."""
    start("hydra.run.dir", tmp_path)
    (heard, says), (waits, ends) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ends)
        os.write(says, b"!")
        os.read(waits, 1)  # until the parent closes its end
        os._exit(0)
    os.read(heard, 1)
    release()
    start("hydra.run.dir", tmp_path)
    for end in (heard, says, waits, ends):
        os.close(end)
    os.waitpid(child, 0)


def test_commands_that_start_together_have_folders_of_their_own() -> None:
    """Within the same second, too."""
    setup_globals()
    folders = [
        OmegaConf.select(OmegaConf.load(CONF / "hydra" / "default.yaml"), key)
        for key in ("run.dir", "sweep.dir")
        for _ in range(5)
    ]
    assert len({*folders}) == 10


def test_a_folder_may_be_named_after_what_hydra_knows(tmp_path: Path) -> None:
    """As by `${hydra:…}`, which needs Hydra's own node before a job has begun."""
    start("hydra.sweep.dir", f"{tmp_path}/${{hydra:job.name}}")
    assert running_sweep() == tmp_path / "irexp"


def test_a_full_disk_is_named_before_anything_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra would end with a traceback."""

    @contextmanager
    def full(*_: object, **__: object) -> Iterator[NoReturn]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield

    monkeypatch.setattr("irexp.stage.output.hold_lock", full)
    with pytest.raises(
        SystemExit, match=r"hydra\.run\.dir=.*: nothing can be written there \(No space left on device\)"
    ):
        start("hydra.run.dir", f"hydra.run.dir={tmp_path}")


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as Lustre without its option flock; the command runs."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    start("hydra.sweep.dir", tmp_path)
    assert "cannot be locked (Function not implemented)" in caplog.text and running_sweep() == tmp_path
