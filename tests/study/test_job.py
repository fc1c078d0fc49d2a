"""What a job returns to a sweeper, and a real search that is killed and resumed."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import time
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from irexp.artifact.objective import objective_names
from irexp.config.installation import CONF
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from irexp.stage import job
from irexp.stage.sweep import report_sweep
from irexp.types import UserError
from tests import commands
from tests.chains import Compose, planned, settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("typed", "stages", "expected"),
    [
        ((), ["fit", "encode", "index", "search", "evaluate"], ["nDCG@10"]),
        (("evaluation.measures=[RR@10]",), ["evaluate"], ["RR@10"]),
        ((), ["fit"], ["validation/nDCG@10"]),
        (("training.validate_every=null",), ["fit"], []),
        (("training=none",), ["fit"], []),
        (("objective=[R@100,nDCG@10]",), ["evaluate"], ["R@100", "nDCG@10"]),
        (("objective=[validation/nDCG@10]",), ["fit", "evaluate"], ["validation/nDCG@10"]),
        (("objective=[nDCG@10,ms_one_by_one]",), ["evaluate", "speed"], ["nDCG@10", "ms_one_by_one"]),
        ((), ["speed"], []),
        (("model=bm25",), ["fit", "index"], []),
    ],
)
def test_the_objective_is_the_first_measure_unless_others_are_named(
    compose: Compose, typed: tuple[str, ...], stages: list[str], expected: list[str]
) -> None:
    """Of the evaluation if the job evaluates, else of the validation."""
    assert objective_names(planned(compose, list(typed), stages)) == expected


def test_an_objective_that_the_job_does_not_measure_is_refused(compose: Compose) -> None:
    """The message names the nearest one."""
    with pytest.raises(UserError, match=r"does not measure nDCG@11; did you mean nDCG@10\?"):
        objective_names(planned(compose, ["objective=[nDCG@11]"], ["evaluate"]))


def _columns(collection: Path) -> str:
    """Two columns: the collection, and the same with other judgements."""
    (collection / "qrels" / "b.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td1\t1\n")
    return f'columns={{a: [], b: ["dataset.test.qrels_path={collection}/qrels/b.tsv"]}}'


def test_the_objective_of_several_columns_is_their_mean(
    tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the experiment's own row: neither the last cell nor another row counts."""
    data = ["dataset=local", f"dataset.path={collection}", _columns(collection)]

    def measured() -> list[float]:
        stages = json.loads((tmp_path / "summary.json").read_text())["stages"]
        return [stage["measures"]["nDCG@10"] for stage in stages if stage["stage"] == "evaluate"]

    found = _run(tmp_path, monkeypatch, *data)
    first, last = measured()
    assert found == (first + last) / 2 != last
    rows = 'rows={ours: [], other: ["index.k1=0.1", "index.b=0"]}'
    assert _run(tmp_path, monkeypatch, *data, rows) == found
    assert len(measured()) == 4
    several = 'rows={one: ["index.k1=1"], two: ["index.k1=2"]}'
    assert _run(tmp_path, monkeypatch, *data, several) is None
    assert len(measured()) == 4
    assert _run(tmp_path, monkeypatch, *data, several, "hydra/sweeper=optuna") is None
    assert measured() == [] and "is this experiment itself" in (tmp_path / "summary.json").read_text()


def test_the_objective_of_several_rows_is_refused_where_it_is_needed(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Only the row without changes, or the only row, is clear; a job that is not searched for returns nothing."""

    def names(*more: str, is_needed: bool = True) -> list[str]:
        plan = planned(compose, settings(tmp_path, collection, "model=bm25", *more), ["index", "search", "evaluate"])
        return objective_names(plan, is_needed=is_needed)

    several = 'rows={one: ["index.k1=1"], two: ["index.k1=2"]}'
    with pytest.raises(UserError, match="none of the rows one, two is this experiment itself"):
        names(several)
    with pytest.raises(UserError, match="none of the rows one, two is this experiment itself"):
        names(several, "objective=[nDCG@10]", is_needed=False)
    assert names(several, is_needed=False) == []
    assert names('rows={one: ["index.k1=1"]}') == ["nDCG@10"]
    with pytest.raises(UserError, match=r"does not measure R@5 in every column"):
        names('columns={a: [], b: ["evaluation.measures=[R@5]"]}', "objective=[R@5]")


def _run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> float | list[float] | None:
    """Run a job of a sweep in this process; returns what its sweeper gets."""
    register_resolvers()
    register_schema()
    places = [f"paths.artifacts={tmp_path / 'artifacts'}", f"hydra.runtime.output_dir={tmp_path}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        more = ["model=bm25", "stage=[index,search,evaluate]", "baselines=[]", "machine.progress=false"]
        config = hydra_compose("config", [*more, *places, "hydra.mode=MULTIRUN", *overrides], return_hydra_config=True)
        state = OmegaConf.create({"hydra": OmegaConf.to_container(config.hydra, resolve=False)})
        monkeypatch.setattr(HydraConfig.instance(), "cfg", state)
        with open_dict(config):
            del config["hydra"]
        return job.run_job(config)


def test_a_job_returns_its_measure_and_none_after_a_failure(
    tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is recorded, and raises nothing, so that other jobs of the sweep run."""
    data = ["dataset=local", f"dataset.path={collection}"]
    found = _run(tmp_path, monkeypatch, *data)
    measured = json.loads((tmp_path / "summary.json").read_text())["stages"][-1]["measures"]
    assert found == measured["nDCG@10"]
    assert _run(tmp_path, monkeypatch, *data, "objective=[R@100,RR@10]") == [measured["R@100"], measured["RR@10"]]
    assert _run(tmp_path, monkeypatch, *data, "dataset.path=nowhere") is None
    assert json.loads((tmp_path / "summary.json").read_text())["outcome"] == "failed"


def test_a_full_disk_hides_no_error_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The job's own error is said first, and then that there is no record of it, each in one line."""

    def full(path: Path, _: object) -> None:
        if path.is_file():  # the first record fitted
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        path.touch()

    def failed(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "table.md")

    monkeypatch.setattr(job, "write_record", full)
    monkeypatch.setattr(job, "run_stages", failed)
    assert _run(tmp_path, monkeypatch) is None
    first, second = (record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    assert first == "OSError: [Errno 28] No space left on device: 'table.md'"
    assert second.startswith(
        f"no record of the job can be written into {tmp_path} (No space left on device); free some"
    )
    caplog.clear()
    assert _run(tmp_path, monkeypatch) is None  # nothing fits: one line
    (line,) = (record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    assert line.startswith("UserError: no record of the job can be written")


def test_a_pruned_job_is_recorded_as_such_and_tells_the_sweeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exception reaches Hydra, and a sweep with pruned jobs has not failed."""
    import optuna

    def pruned(*arguments: object, **settings: object) -> None:
        raise optuna.TrialPruned("worse than others")

    monkeypatch.setattr(job, "run_stages", pruned)
    (tmp_path / "0").mkdir()
    with pytest.raises(optuna.TrialPruned):
        _run(tmp_path / "0", monkeypatch)
    assert json.loads((tmp_path / "0" / "summary.json").read_text())["outcome"] == "pruned"
    assert report_sweep(tmp_path)


@pytest.mark.slow
def test_a_killed_search_resumes_its_fit_prunes_and_ends_with_a_command(tmp_path: Path) -> None:
    """SIGKILL in the second fit; the same command repeats that trial, its fit resumes; pruned fits are no artifacts."""
    training = ["training.steps=6", "training.validate_every=2", "training.batch_size=4"]
    training += ["training.validation_documents=150", "training.validation_queries=40", "machine.resume_every=1"]
    search = ["hydra.sweeper.trials=4", "hydra.sweeper.prune=true", "hydra.sweeper.pruner.n_startup_trials=1"]
    command = ["-m", "hydra/sweeper=optuna", "model=sbert", "stage=fit", "machine.threads=1"]
    command += ["training.learning_rate=tag(log,interval(1e-6,1e-2))", *training, *search, "machine.progress=false"]
    command += [f"paths.artifacts={tmp_path / 'artifacts'}", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    checkpoints = tmp_path / "artifacts" / "checkpoint"
    with commands.start(ROOT, command, tmp_path / "log") as first:
        while first.poll() is None and len(list(checkpoints.glob(".partial-*/.training/last.ckpt"))) < 2:
            if list(checkpoints.glob("sbert*")) and list(checkpoints.glob(".partial-*/.training/last.ckpt")):
                break
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
    status, printed = commands.finish(ROOT, command, tmp_path / "log")
    assert status == 0, printed
    assert "trial 1 was killed: its settings are tried again" in printed
    assert "resuming the training in" in printed
    with (tmp_path / "sweep" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    states = [row["state"] for row in rows]
    assert states[:2] == ["complete", "fail"]
    assert states.count("complete") + states.count("pruned") == 4
    assert rows[1]["training.learning_rate"] == rows[2]["training.learning_rate"]
    assert len(list(checkpoints.glob("sbert*"))) == states.count("complete")
    assert len(list(checkpoints.glob(".partial-*"))) == states.count("pruned")
    comment, best = (tmp_path / "sweep" / "best.txt").read_text().splitlines()
    assert comment.startswith("# trial ")
    assert "hydra" not in best
    assert best.startswith("python run.py model=sbert stage=fit ")
