"""A graph as tasks of a Ray cluster, one per artifact, or of Ray on this machine.

Ray's processes make several tasks, but those that had a GPU only one. The nodes share the artifacts' folder.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import irexp
from irexp.artifact.hardware import usable_processors
from irexp.config.check import ConfigError
from irexp.config.installation import install_command
from irexp.sweep.graph import Task
from irexp.sweep.make import Place, attempt, set_up_logging
from irexp.sweep.resources import resources_of
from irexp.sweep.runner import Result, Runner

log = logging.getLogger(__name__)

#: Seconds between two looks at the tasks.
_SECONDS = 1.0

#: What Ray says of a wrong or missing token; the type of the error depends on where it is noticed.
_REFUSED = re.compile(r"AuthToken|[Uu]nauth|[Aa]uthenticat")


def start_tasks(
    place: Place,
    configs: Sequence[DictConfig],
    *,
    address: str | None,
    retries: int,
    default: Mapping[str, Any],
    stages: Mapping[str, Mapping[str, Any]],
) -> Runner:
    """What hands the tasks of a sweep to Ray.

    Raises:
        ConfigError: if Ray is missing, the cluster does not answer, this machine has less than is asked for, or
            resources are set for a stage that has no tasks.
    """
    resources, faults = resources_of(default, stages)
    if importlib.util.find_spec("ray") is None:
        faults.append(f"hydra/launcher=ray needs the package ray: {install_command('ray')}")
    if faults:
        raise ConfigError(faults)
    _connect(address)
    asked = _with_gpus(resources, max(config.machine.devices for config in configs))
    if fault := _lacking(asked):
        if address is None:
            _disconnect()
            raise ConfigError([fault])
        log.warning("%s; such a task waits until one joins", fault)
    return Tasks(place, asked, retries)


class Tasks:
    """The tasks of a graph.

    Attributes:
        is_early: False, since a task is handed over when it can begin.
        count: None, since Ray decides how many run at a time.
    """

    is_early = False
    count: int | None = None
    is_free = True

    def __init__(self, place: Place, resources: Mapping[str, Mapping[str, Any]], retries: int) -> None:
        """Nothing is handed over yet.

        Args:
            place: where tasks are made; each logs to a file in the folder `tasks` there.
            resources: what the tasks of each stage ask for.
            retries: how often a task begins again whose process or node is lost.
        """
        self._place, self._resources, self._retries = place, resources, retries
        self._keys: dict[Any, str] = {}
        (place.output / "tasks").mkdir(parents=True, exist_ok=True)

    def start(self, task: Task) -> None:
        """Hand a task over."""
        import ray

        asked = self._resources[task.stage]
        remote = ray.remote(max_retries=self._retries)(_attempt)
        memory = int(asked["gigabytes"] * 1e9) if asked["gigabytes"] else None
        options = remote.options(num_cpus=asked["cpus"], num_gpus=asked["gpus"], memory=memory, name=task.label)
        self._keys[options.remote(task, replace(self._place, threads=asked["cpus"]))] = task.key

    def wait(self) -> list[Result]:
        """The tasks that have ended since the last look."""
        import ray

        ended, _ = ray.wait(list(self._keys), num_returns=1, timeout=_SECONDS)
        return [self._result(self._keys.pop(reference), reference) for reference in ended]

    def drop(self, key: str) -> None:
        """Nothing is handed over before it can begin."""

    def close(self) -> None:
        """End the tasks that run, and leave the cluster."""
        import ray

        for reference in self._keys:
            ray.cancel(reference, force=True)
        _disconnect()

    def _result(self, key: str, reference: Any) -> Result:
        import ray

        try:
            return Result(key, *ray.get(reference))
        except ray.exceptions.RayError as error:
            cause = str(error).strip().partition("\n")[0]
            logs = self._place.output / "tasks"
            return Result(key, 0.0, f"the task's process was lost: {cause}\nits log is in {logs}")


def _attempt(task: Task, place: Place) -> tuple[float, str | None]:
    """Make a task's artifact in a process of Ray; its log is a file, not the output of the command."""
    name = task.step.name.replace("/", "-")
    with (place.output / "tasks" / f"{name}.log").open("a", encoding="utf8") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    set_up_logging()
    fault = _enter(place.directory, task.plan.experiment.root)
    seconds, error = (0.0, fault) if fault else attempt(task, place)
    return seconds, error and f"{error}\nits log is {log.name}"


def _enter(directory: Path, artifacts: Path) -> str | None:
    """Begin relative paths where the command does, not where Ray was started; returns what is wrong with that."""
    try:
        os.chdir(directory)
    except OSError as error:
        if not artifacts.is_absolute():
            return (
                f"paths.artifacts={artifacts} is relative to {directory}, which this node does not have "
                f"({error.strerror}); name a folder that all nodes share, by its absolute path"
            )
    return None


def _connect(address: str | None) -> None:
    """Start Ray on this machine, or join a cluster.

    Raises:
        ConfigError: if no cluster answers, or it refuses this process.
    """
    import ray

    folder = str(Path(irexp.__file__).parents[1])  # a task starts where it finds no clone that is not installed
    path = os.pathsep.join(filter(None, [folder, *sys.path]))
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address or "local",
            num_cpus=None if address else usable_processors(),  # Ray itself would count those of the whole machine
            log_to_driver=False,
            include_dashboard=None if address else False,
            logging_level=logging.WARNING,
            runtime_env={"env_vars": {"PYTHONPATH": path}},
        )
    except (ConnectionError, RuntimeError, TimeoutError, ValueError, ray.exceptions.RayError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        refused = next((line.strip() for line in lines if _REFUSED.search(line)), None)
        fault = (
            f"no Ray cluster answers ({lines[0]}); start one with `ray start --head`, or leave it null to run Ray on "
            f"this machine"
        )
        if refused is not None:
            fault = (
                f"the Ray cluster refuses the authentication of this command ({refused}); give the cluster's token in "
                f"the variable RAY_AUTH_TOKEN, or in the file ~/.ray/auth_token, with RAY_AUTH_MODE=token"
            )
        raise ConfigError([f"hydra.launcher.address={address}: {fault}"]) from None
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray's own would end the sweep without a word


def _disconnect() -> None:
    import ray

    before = signal.getsignal(signal.SIGTERM)
    ray.shutdown()
    signal.signal(signal.SIGTERM, before)


def _with_gpus(resources: Mapping[str, Mapping[str, Any]], devices: int) -> dict[str, dict[str, Any]]:
    """The resources, where null is so many GPUs if the cluster has any."""
    import ray

    number = devices if ray.cluster_resources().get("GPU") else 0  # type: ignore[no-untyped-call]
    return {
        name: {**asked, "gpus": number if asked["gpus"] is None else asked["gpus"]} for name, asked in resources.items()
    }


def _lacking(resources: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first stage whose tasks Ray would hold back, since no node has what they ask for."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    for name, asked in resources.items():
        wanted = {"CPU": asked["cpus"], "GPU": asked["gpus"], "memory": (asked["gigabytes"] or 0) * 1e9}
        if not any(all(node.get(kind, 0) >= number for kind, number in wanted.items()) for node in nodes):
            return (
                f"hydra.launcher: no node has what {name} asks for ({_words(wanted)}); there are "
                f"{' and '.join(map(_words, nodes))}"
            )
    return None


def _words(resources: Mapping[str, float]) -> str:
    cpus, gpus, memory = (resources.get(kind, 0) for kind in ("CPU", "GPU", "memory"))
    return f"{cpus:g} CPUs, {gpus:g} GPUs, {memory / 1e9:.1f} GB"
