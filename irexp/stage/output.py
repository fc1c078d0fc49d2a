"""The output folder of a command, which no other one writes into meanwhile: each would list the other's jobs."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from irexp.artifact.disk import hold_lock
from irexp.config.check import ConfigError
from irexp.training.nodes import node_rank

log = logging.getLogger(__name__)

#: The lock in the folder.
LOCK = ".lock"

#: What the system says where a file system has no locks, such as Lustre without the option flock.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)

#: The lock that this process holds, not the callback, which is sent to the processes of a sweep's jobs.
_held = ExitStack()

#: The folder of the sweep that this process runs, until its jobs are listed.
_sweeps: list[Path] = []


class OutputFolder(Callback):
    """Keeps the folder of a job or of a sweep for one command, and ends another one.

    The jobs of a sweep are not commands of their own, nor are the further nodes of a job that runs on several.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Lock the job's folder, or exit."""
        _hold(config, "hydra.run.dir")

    def on_run_end(self, config: DictConfig, **_: Any) -> None:
        """Release it."""
        release()

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Lock the sweep's folder, or exit; the sweep's report releases it."""
        if (folder := _hold(config, "hydra.sweep.dir")) is not None:
            _sweeps.append(folder)


def running_sweep() -> Path | None:
    """The folder of the sweep that this process runs, if it does and its jobs are not listed yet."""
    return _sweeps[-1] if _sweeps else None


def release() -> None:
    """Let other commands write into the folder; this one has ended."""
    _sweeps.clear()
    _held.close()


def _hold(config: DictConfig, key: str) -> Path | None:
    """Lock a folder, which is created, and return it; None on the further nodes of a job."""
    release()  # of an earlier command in this process, which failed
    if node_rank(config.machine.num_nodes) != 0:
        return None
    before = HydraConfig.instance().cfg
    try:
        # which a name with `${hydra:…}` asks for
        HydraConfig.instance().cfg = OmegaConf.masked_copy(config, "hydra")  # type: ignore[assignment]
        folder = Path(str(OmegaConf.select(config, key)))
    finally:
        HydraConfig.instance().cfg = before
    lock, name = folder / LOCK, f"{key}={folder}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _held.enter_context(hold_lock(lock, name, waits=False))
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
    except BlockingIOError:
        _end(f"{name}: another command is writing there, {_owner(lock)}; wait for its end, or name another folder")
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            _end(f"{name}: nothing can be written there ({error.strerror}); set {key} to a folder where it can")
        log.warning("%s cannot be locked (%s): see that no other command writes there", name, error.strerror)
    return folder


def _owner(lock: Path) -> str:
    """The process that holds a lock, as it says itself there."""
    return lock.read_text(encoding="utf8") or "a process that has just begun"


def _end(fault: str) -> None:
    sys.exit(f"ConfigError: {ConfigError([fault])}")


# A process that is forked, such as one that prepares batches, would hold the lock longer than a killed command.
os.register_at_fork(after_in_child=release)
