"""A graph as jobs of Slurm, asked for through stand-ins of its programs, and as submitit's local processes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import DictConfig, OmegaConf

from irexp.artifact.plan import Plan
from irexp.config.check import ConfigError
from irexp.config.installation import CONF
from irexp.sweep.cluster import start_jobs
from irexp.sweep.graph import Graph, Planned, merge
from irexp.sweep.make import Place
from irexp.sweep.runner import run_graph
from tests.chains import Compose, planned, settings

pytest.importorskip("submitit")

#: Keeps each script that it is given, and numbers the jobs from 101 on.
SBATCH = """#!/bin/sh
number=$((101 + $(ls {folder}/submitted | wc -l)))
cp "$1" {folder}/submitted/$number
echo "Submitted batch job $number"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the scripts that were submitted, by number."""
    for name, text in {"sbatch": SBATCH, "srun": "#!/bin/sh\n", "scancel": "#!/bin/sh\n"}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text.format(folder=tmp_path))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    (tmp_path / "submitted").mkdir()
    return tmp_path / "submitted"


@pytest.fixture
def graph_of(compose: Compose, tmp_path: Path, collection: Path) -> Callable[..., Graph]:
    """The graph of one job with these overrides."""

    def _graph_of(*more: str, names: list[str]) -> Graph:
        plan: Plan = planned(compose, settings(tmp_path, collection, *more), names)
        return merge({0: Planned(plan, {})})

    return _graph_of


def options(script: Path) -> dict[str, str]:
    """The options of a script for sbatch."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script.read_text(), re.MULTILINE))


def keys(*changes: str) -> DictConfig:
    """The keys of conf/hydra/launcher/slurm.yaml, with changes."""
    found = OmegaConf.merge(
        OmegaConf.load(CONF / "hydra" / "launcher" / "slurm.yaml"), OmegaConf.from_dotlist([*changes])
    )
    assert isinstance(found, DictConfig)
    del found["_target_"], found["shares"]  # which the launcher keeps
    return found


def test_each_job_depends_on_those_that_make_its_inputs(
    graph_of: Callable[..., Graph], slurm: Path, tmp_path: Path
) -> None:
    """Only direct inputs are named; a job whose input fails is removed; a stage has its own resources."""
    launcher = keys("default.partition=gpu", "default.extra.account=mine", "stages.encode.gpus=4", "seconds=1")
    jobs = start_jobs(Place(tmp_path, ("run.py",)), [], **launcher)  # type: ignore[arg-type]
    graph = graph_of("model=sbert", names=["fit", "encode", "index", "search", "evaluate"])
    for task in graph.tasks.values():
        assert jobs.is_free
        jobs.start(task)
    found = {number: options(slurm / str(number)) for number in range(101, 106)}
    assert len(list(slurm.iterdir())) == 5
    assert [found[number].get("dependency") for number in found] == [
        *(None, "afterok:101", "afterok:102", "afterok:101:103", "afterok:104"),
    ]
    assert [found[number].get("kill-on-invalid-dep") for number in found] == [None, "yes", "yes", "yes", "yes"]
    assert [found[number]["job-name"] for number in found] == [
        f"irexp-{name}" for name in ("fit", "encode", "index", "search", "evaluate")
    ]
    assert [found[number]["gpus-per-node"] for number in found] == ["1", "4", "0", "1", "0"]
    assert [found[number]["time"] for number in found] == ["480", "480", "480", "480", "60"]
    assert [found[number]["cpus-per-task"] for number in found] == ["8", "8", "8", "8", "2"]
    assert {(each["mem"], each["partition"], each["account"]) for each in found.values()} == {("32GB", "gpu", "mine")}


def test_a_failed_job_fails_those_that_depend_on_it(
    graph_of: Callable[..., Graph], slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm removes them without a result; they have the error of the first, and nothing waits for them."""
    jobs = start_jobs(Place(tmp_path, ("run.py",)), [], **keys("seconds=1"))  # type: ignore[arg-type]
    graph = graph_of("model=bm25", names=["index", "search", "evaluate"])

    def ended(key: str, job: object) -> object:
        return SimpleNamespace(key=key, seconds=0.0, error="UserError: no space is left")

    monkeypatch.setattr("submitit.SlurmJob.done", lambda job: job.job_id in ("101", "102"))  # the third one waits
    monkeypatch.setattr("irexp.sweep.cluster.Jobs._result", lambda self, key, job: ended(key, job))
    assert set(run_graph(graph.tasks, jobs).values()) == {"UserError: no space is left"}
    assert len(list(slurm.iterdir())) == 3


def test_without_slurm_or_with_another_stage_nothing_is_submitted(tmp_path: Path) -> None:
    """The error names the programs that are missing and the local way, and the nearest stage."""
    with pytest.raises(ConfigError) as caught:
        start_jobs(Place(tmp_path, ()), [], **keys("stages.endoce.gpus=1"))  # type: ignore[arg-type]
    first, second = caught.value.faults
    assert first == "hydra.launcher.stages.endoce: no stage of that name has jobs; did you mean encode?"
    assert "no sbatch and no srun" in second and "hydra.launcher.cluster=local" in second


@pytest.mark.slow
def test_submitits_local_processes_make_a_graph_in_order(graph_of: Callable[..., Graph], tmp_path: Path) -> None:
    """They ignore dependencies, so that a task begins only after those that it needs; a failure has its own error."""
    graph = graph_of("model=bm25", names=["index", "search", "evaluate"])
    jobs = start_jobs(Place(tmp_path, ("run.py",)), [], **keys("cluster=local", "seconds=1"))  # type: ignore[arg-type]
    assert run_graph(graph.tasks, jobs) == {}
    assert len(list((tmp_path / "artifacts").glob("*/[!.]*/manifest.json"))) == 3
    excluded = tmp_path / "excluded.txt"
    excluded.write_bytes(b"d0\0\n")
    graph = graph_of("model=bm25", f"search.exclude_path={excluded}", names=["search", "evaluate"])
    jobs = start_jobs(Place(tmp_path, ("run.py",)), [], **keys("cluster=local", "seconds=1"))  # type: ignore[arg-type]
    errors = run_graph(graph.tasks, jobs)
    assert set(errors) == set(graph.tasks) and len(set(errors.values())) == 1
    message, place = errors.popitem()[1].splitlines()[:2]
    assert message.startswith("DataError: ") and "excluded.txt" in message
    assert place.startswith("its log is ")
