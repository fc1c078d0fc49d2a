"""A graph as tasks of Ray, which is started on this machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from omegaconf import DictConfig, OmegaConf

from irexp.config.check import ConfigError
from irexp.config.installation import CONF
from irexp.sweep import ray_tasks
from irexp.sweep.graph import Planned, Task, merge
from irexp.sweep.make import Place
from irexp.sweep.ray_tasks import start_tasks
from irexp.sweep.runner import Runner, run_graph
from tests.chains import Compose, planned, settings

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.slow

#: The names of the graph's stages.
STAGES = ["index", "search", "evaluate"]


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cluster at a time, whichever process tests it: address=auto would find that of another test."""
    with (tmp_path_factory.getbasetemp().parent / "ray.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def plan_of(compose: Compose, tmp_path: Path) -> Callable[..., Planned]:
    """The plan of BM25 on a collection, with further settings."""

    def _plan_of(collection: Path, *more: str) -> Planned:
        return Planned(planned(compose, settings(tmp_path, collection, "model=bm25", *more), STAGES), {})

    return _plan_of


@pytest.fixture
def start(compose: Compose, tmp_path: Path) -> Callable[..., Runner]:
    """Starts Ray with the keys of conf/hydra/launcher/ray.yaml, with changes."""

    def _start(*changes: str) -> Runner:
        keys = OmegaConf.merge(
            OmegaConf.load(CONF / "hydra" / "launcher" / "ray.yaml"), OmegaConf.from_dotlist([*changes])
        )
        assert isinstance(keys, DictConfig)
        del keys["_target_"], keys["shares"]  # which the launcher keeps
        return start_tasks(Place(tmp_path, ("run.py",)), [compose()], **keys)  # type: ignore[arg-type]

    return _start


def test_a_killed_task_begins_again_and_a_failed_one_has_its_own_error(
    plan_of: Callable[..., Planned], start: Callable[..., Runner], tmp_path: Path, collection: Path
) -> None:
    """Of two collections one is searched with a damaged file; the process that indexes the other one is killed once."""
    damaged = tmp_path / "damaged"
    shutil.copytree(collection, damaged)
    (damaged / "excluded.txt").write_bytes(b"d0\0\n")
    (damaged / "corpus.jsonl").write_text('{"_id": "d1", "text": "how to make a cup"}\n')
    jobs = {0: plan_of(collection), 1: plan_of(damaged, f"search.exclude_path={damaged / 'excluded.txt'}")}
    good, bad = ([task.key for task in merge({0: job}).tasks.values()] for job in jobs.values())
    graph, handler = merge(jobs), signal.getsignal(signal.SIGTERM)
    runner, killer = start("retries=1"), _killer(tmp_path, graph.tasks[good[0]])
    errors = run_graph(graph.tasks, runner)
    killer.join()
    assert errors.keys() == set(bad[1:])
    assert len(list((tmp_path / "artifacts").glob("*/[!.]*/manifest.json"))) == 4
    message, place = errors.popitem()[1].splitlines()
    assert message.startswith("DataError: ") and "excluded.txt" in message
    assert "search: making" in Path(place.removeprefix("its log is ")).read_text()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_without_another_try_what_needs_a_killed_task_is_lost(
    plan_of: Callable[..., Planned], start: Callable[..., Runner], tmp_path: Path, collection: Path
) -> None:
    """Its error says so, and where its log is."""
    graph = merge({0: plan_of(collection)})
    runner, killer = start("retries=0"), _killer(tmp_path, next(iter(graph.tasks.values())))
    errors = run_graph(graph.tasks, runner)
    killer.join()
    assert errors.keys() == graph.tasks.keys()
    assert all(error.startswith("the task's process was lost: ") for error in errors.values())
    assert all(str(tmp_path / "tasks") in error for error in errors.values())


def test_what_the_cluster_cannot_give_is_said_at_once(start: Callable[..., Runner]) -> None:
    """More than this machine has; a cluster that does not answer; a stage without tasks."""
    with pytest.raises(ConfigError, match=r"no node has what encode asks for \(4096 CPUs, 0 GPUs, 0\.0 GB\); there"):
        start("stages.encode.cpus=4096")
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.address=auto: no Ray cluster answers"):
        start("address=auto")
    with pytest.raises(ConfigError, match=r"stages\.endoce: no stage of that name has jobs; did you mean encode\?"):
        start("stages.endoce.gpus=1")


def test_ray_on_this_machine_has_the_processors_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would count all of the machine, and start a task for each; a cluster knows its own."""
    found: dict[str, int | None] = {}
    monkeypatch.setattr("ray.init", lambda address, **settings: found.update({address: settings["num_cpus"]}))
    monkeypatch.setattr(ray_tasks, "usable_processors", lambda: 8)
    for address in (None, "auto"):
        ray_tasks._connect(address)
    assert found == {"local": 8, "auto": None}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("cannot connect\nInvalidAuthToken: the token is incorrect"), "authentication of .*incorrect"),
        (ray.exceptions.RayError("Unauthenticated: no token"), "refuses the authentication .*no token.*RAY_AUTH_TOKEN"),
        (ConnectionError("Could not find any running Ray instance"), "no Ray cluster answers .*running Ray instance"),
    ],
)
def test_a_cluster_that_refuses_a_token_is_not_one_that_is_missing(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting another one would not help."""

    def init(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(ConfigError, match=rf"hydra\.launcher\.address=auto: .*{words}"):
        ray_tasks._connect("auto")


def test_relative_paths_of_a_task_begin_where_those_of_the_command_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's processes start where Ray was started; a node without that folder can use absolute paths only."""
    monkeypatch.chdir(tmp_path)
    place = Place(tmp_path / "output", ("run.py",))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ray_tasks._enter(place.directory, Path("artifacts")) is None and Path.cwd() == tmp_path
    fault = ray_tasks._enter(tmp_path / "absent", Path("artifacts"))
    assert fault is not None and fault.startswith(f"paths.artifacts=artifacts is relative to {tmp_path / 'absent'}, ")
    assert ray_tasks._enter(tmp_path / "absent", tmp_path / "artifacts") is None


def _killer(output: Path, task: Task) -> threading.Thread:
    """Kills the process of a task, once, when its log has begun."""
    log = output / "tasks" / f"{task.step.name.replace('/', '-')}.log"

    def kill() -> None:
        while not log.exists() or "index: making" not in log.read_text():
            time.sleep(0.005)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, OSError):
                if os.path.realpath(f"/proc/{process.pid}/fd/1") == str(log.resolve()):
                    process.kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread
