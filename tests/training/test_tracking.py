"""Trackers need no account and show a whole job: configuration, curves, measures, tables and artifacts."""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from irexp.evaluation.measures import Measured
from irexp.evaluation.table import Result, Table, make_table
from irexp.training.mlflow_tracker import check_address
from irexp.training.outcome import (
    Shown,
    TrackedArtifact,
    artifact_name,
    finish,
    log_artifact,
    log_configuration,
    log_measures,
    log_per_query,
    log_table,
)
from irexp.training.tracked_job import Ending, TrackedJob
from irexp.training.tracking import TitledLogger, csv_logger, mlflow_logger, tensorboard_logger, wandb_logger
from irexp.types import UserError
from tests.training.wandb_file import run_of

MEASURED = Measured({"RR@10": {"q1": 1.0, "q2": 0.5}}, {"RR@10": 0.75}, 0, 0)
CONFIGURATION = {"seed": 1, "artifact": {"run": "run/mine.toys-00000001"}}
MEASURES = {"test/RR@10": 0.75}
JOB = TrackedJob("0123456789abcdef", "seed=1", "evaluate", "multirun/mine")
DONE, FAILED = Ending(), Ending("failed", "UserError: too few documents")

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="the extra mlflow is not installed"
)
wandb_warns = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def table() -> Table:
    """One row, one measure, two queries."""
    return make_table([Result("mine", MEASURED, {"run": "run/mine.toys-00000001"})], ["RR@10"])


def write_job(logger: Logger, ending: Ending = DONE) -> None:
    """All that a job writes to its tracker."""
    log_configuration(logger, CONFIGURATION)
    logger.log_metrics({"train/loss": 0.5}, step=1)
    log_measures(logger, MEASURES)
    log_per_query(logger, "toys", MEASURED)
    log_table(logger, "toys", table())
    artifact = TrackedArtifact("run/mine.toys-00000001", "run", None, made_from=["index/mine.toys-00000001"])
    finish(logger, Shown(CONFIGURATION, MEASURES, [artifact]), ending)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for wandb, which has no account and all the time that a busy machine needs."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_own"))
    for patience in ("WANDB_X_SERVICE_WAIT", "WANDB_INIT_TIMEOUT"):
        monkeypatch.setenv(patience, "3600")  # seconds
    return tmp_path


@pytest.fixture
def artifacts(tmp_path: Path) -> list[TrackedArtifact]:
    """A checkpoint and a run that is made from it, in folders."""
    found = []
    for kind, made_from in (("checkpoint", ()), ("run", ("checkpoint/mine.toys-00000001",))):
        folder = tmp_path / "artifacts" / kind
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        (folder / "large").write_text("many bytes")
        found.append(TrackedArtifact(f"{kind}/mine.toys-00000001", kind, folder, False, made_from, {"queries": 2.0}))
    return found


@wandb_warns
def test_wandb_shows_the_whole_job(offline: Path) -> None:
    """Name, group, job type, tags, configuration, curves, summary, table and values per query are in the file."""
    write_job(wandb_logger(offline, JOB, tags=["mine"]))
    found = run_of(offline)
    run = found["run"]
    assert (run.run_id, run.display_name, run.run_group, run.job_type) == (JOB.id, JOB.name, JOB.group, JOB.stage)
    assert list(run.tags) == ["mine"] and run.resume and found["exit_code"] == 0
    assert (found["config"]["seed"], found["config"]["artifact"]) == (1, CONFIGURATION["artifact"])
    assert [(row["trainer/global_step"], row["train/loss"]) for row in found["history"] if "train/loss" in row] == [
        (1, 0.5)
    ]
    assert found["summary"]["test/RR@10"] == 0.75
    files = {path.name.partition("_")[0]: path for path in offline.rglob("*.table.json")}
    tables = {path.parent.name: json.loads(path.read_text()) for path in offline.rglob("*.table.json")}
    assert len(files) == 1 and tables.keys() == {"table", "per_query"}
    assert tables["per_query"]["data"] == [["q1", 1.0], ["q2", 0.5]]
    assert tables["table"]["data"][0][0] == "mine"


@wandb_warns
def test_a_resumed_job_continues_its_run_and_another_job_does_not(offline: Path) -> None:
    """The run's id is the job's; jobs of one process never share a run."""
    ids = []
    for name, job in (("first", JOB), ("resumed", JOB), ("other", TrackedJob("other", "seed=2", "evaluate"))):
        (offline / name).mkdir()
        write_job(wandb_logger(offline / name, job))
        ids.append(run_of(offline / name)["run"].run_id)
    assert ids == [JOB.id, JOB.id, "other"]


@wandb_warns
def test_the_agent_of_a_wandb_sweep_decides_the_id_of_the_run(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent sets WANDB_RUN_ID and waits for the run of this id; the jobs of a sweep of Hydra never share one."""
    monkeypatch.setenv("WANDB_RUN_ID", "swept")
    for name, job in (("one", replace(JOB, group=None)), ("of_many", replace(JOB, group="multirun/x"))):
        (offline / name).mkdir()
        write_job(wandb_logger(offline / name, job))
    assert [run_of(offline / name)["run"].run_id for name in ("one", "of_many")] == ["swept", JOB.id]


@wandb_warns
def test_a_failed_job_is_marked_failed_in_wandb(offline: Path) -> None:
    """The run ends with an exit status other than 0, and its summary holds the error."""
    write_job(wandb_logger(offline, JOB), FAILED)
    found = run_of(offline)
    assert found["exit_code"] == 1
    assert (found["summary"]["outcome"], found["summary"]["error"]) == ("failed", FAILED.error)


@wandb_warns
@pytest.mark.parametrize("upload", [[], ["run"]])
def test_wandb_gets_the_lineage_and_only_the_files_asked_for(
    offline: Path, artifacts: list[TrackedArtifact], upload: list[str]
) -> None:
    """An artifact has its identity and inputs, and its files if its kind is uploaded; an input is used, not made."""
    logger = wandb_logger(offline, JOB, upload=upload)
    checkpoint, run = artifacts
    log_artifact(logger, replace(checkpoint, is_input=True))
    log_artifact(logger, run)
    finish(logger, Shown({}), Ending())
    found = run_of(offline)
    assert (list(found["used"]), list(found["made"])) == (
        ["checkpoint.mine.toys-00000001"],
        ["run.mine.toys-00000001"],
    )
    made = found["made"]["run.mine.toys-00000001"]
    assert made.type == "run" and json.loads(made.metadata)["made_from"] == ["checkpoint/mine.toys-00000001"]
    files = {file.path for file in made.manifest.contents}
    assert files == ({"manifest.json", "large"} if upload else {"manifest.json"})


def test_names_of_artifacts_are_ones_that_wandb_allows() -> None:
    """At most 128 characters, of which some are replaced; the digest at the end stays."""
    name = artifact_name(TrackedArtifact(f"run/a b.{'x' * 190}-0123abcd", "run", None))
    assert len(name) == 128 and name.startswith("run.a-b.") and name.endswith("-0123abcd")
    assert artifact_name(TrackedArtifact("user/model", "checkpoint", None)) == "checkpoint.user.model"


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"tags": ["x" * 65]}, "logger.tags"), ({"upload": ["chekpoint"]}, "checkpoint, encoding, index")],
)
def test_wrong_settings_of_wandb_are_refused_in_one_line(tmp_path: Path, settings: Any, words: str) -> None:
    """Before anything is made."""
    with pytest.raises(UserError, match=words) as error:
        wandb_logger(tmp_path, JOB, **settings)
    assert "\n" not in str(error.value)


def test_csv_has_curves_measures_and_configuration(tmp_path: Path) -> None:
    """In the job's folder, where the report writes the table."""
    write_job(csv_logger(tmp_path, JOB))
    with (tmp_path / "metrics.csv").open(encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    assert [row["train/loss"] for row in rows if row["train/loss"]] == ["0.5"]
    assert [row["test/RR@10"] for row in rows if row["test/RR@10"]] == ["0.75"]
    assert "seed: 1" in (tmp_path / "hparams.yaml").read_text(encoding="utf8")
    check_files(tmp_path)
    assert json.loads((tmp_path / "outcome.json").read_text()) == {"outcome": "done", "error": None}


def check_files(folder: Path) -> None:
    """The values per query and the artifacts with what they are made from, beside the curves."""
    assert (folder / "per_query" / "toys.csv").read_text() == "query_id,RR@10\nq1,1.0\nq2,0.5\n"
    (artifact,) = json.loads((folder / "artifacts.json").read_text())
    assert (artifact["name"], artifact["is_input"]) == ("run/mine.toys-00000001", False)
    assert artifact["made_from"] == ["index/mine.toys-00000001"]


def test_csv_and_tensorboard_say_that_a_job_failed_and_why(tmp_path: Path) -> None:
    """In a file beside the curves, and as a text."""
    write_job(csv_logger(tmp_path / "csv", JOB), FAILED)
    assert json.loads((tmp_path / "csv" / "outcome.json").read_text())["error"] == FAILED.error
    write_job(tensorboard_logger(tmp_path / "board", JOB), FAILED)
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    text = events.Tensors("outcome/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text == f"failed: {FAILED.error}"


def test_tensorboard_has_curves_measures_configuration_and_table(tmp_path: Path) -> None:
    """Measures are shown beside the hyperparameters, the table and the configuration as text."""
    write_job(tensorboard_logger(tmp_path, JOB))
    found = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in found.Scalars("train/loss")] == [0.5]
    assert [event.value for event in found.Scalars("test/RR@10")] == [0.75]
    texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}
    assert "seed: 1" in texts["configuration/text_summary"] and "mine" in texts["table/toys/text_summary"]
    assert "hp_metric" not in found.Tags()["scalars"]
    check_files(tmp_path)
    assert b"seed" in found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of MLflow's store, which takes seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def mlflow_runs(client: Any, experiment: str) -> list[Any]:
    """The runs of an experiment of MLflow."""
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_the_same_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    """A job that failed is marked so, with its error; the same command continues its run, in its newest sweep."""
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    client = MlflowClient(database)
    write_job(mlflow_logger(tmp_path, JOB, tracking_uri=database), FAILED)
    (run,) = mlflow_runs(client, "irexp")
    assert run.info.status == "FAILED" and run.info.run_name == JOB.name
    assert run.data.tags["irexp.outcome"] == "failed" and run.data.tags["irexp.error"] == FAILED.error
    write_job(mlflow_logger(tmp_path, replace(JOB, group="multirun/again"), tracking_uri=database))
    (run,) = mlflow_runs(client, "irexp")
    assert run.info.status == "FINISHED" and run.data.tags["irexp.sweep"] == "multirun/again"
    assert run.data.tags["irexp.outcome"] == "done" and run.data.tags["irexp.error"] == ""
    assert run.data.tags["irexp.stage"] == "evaluate"
    assert run.data.metrics == {"train/loss": 0.5, "test/RR_10": 0.75} and run.data.params["seed"] == "1"
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 2
    names = {file.path for folder in ("table", "per_query") for file in client.list_artifacts(run.info.run_id, folder)}
    assert names == {"table/toys.md", "table/toys.csv", "per_query/toys.csv"}
    listed = Path(client.download_artifacts(run.info.run_id, "artifacts.json", str(tmp_path))).read_text()
    assert json.loads(listed)[0]["made_from"] == ["index/mine.toys-00000001"]


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_rows_may_have_names_that_mlflow_forbids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """In the names of measures, parameters and files each such character becomes an underscore; two stay two."""
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    logger = mlflow_logger(tmp_path, JOB, experiment="forbidden", tracking_uri=database)
    log_configuration(logger, {"rows": {"ours (large)": ["seed=2"], "ours [large]": ["seed=3"]}})
    log_measures(logger, {"test/ours (large)/RR@10": 0.5, "test/ours [large]/RR@10": 0.25, "test/甲/RR@10": 1.0})
    log_per_query(logger, "ours (large)", MEASURED)
    log_per_query(logger, "../ours", MEASURED)
    finish(logger, Shown({}), DONE)
    client = MlflowClient(database)
    (run,) = mlflow_runs(client, "forbidden")
    one, two = "ours _large_ 14f1", "ours _large_ c8af"
    assert run.data.metrics == {f"test/{one}/RR_10": 0.5, f"test/{two}/RR_10": 0.25, "test/_ 33e3/RR_10": 1.0}
    assert run.data.params == {f"rows/{one}": "['seed=2']", f"rows/{two}": "['seed=3']"}
    files = [file.path for file in client.list_artifacts(run.info.run_id, "per_query")]
    assert files == ["per_query/_ 5ec1", f"per_query/{one}.csv"]


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("foo://bar", "logger.tracking_uri=foo://bar, logger.experiment=irexp: MLflow cannot open it: "),
        ("http://127.0.0.1:9", "cannot open it: API request .* start the server"),
        ("mysql://me:mine@host/runs", r"logger.tracking_uri=mysql://me:\*\*\*@host/runs holds a secret"),
        ("sqlite:///runs.db?password=mine", r"runs.db\?password=\*\*\* holds a secret, .* MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_an_address_that_mlflow_cannot_open_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, message: str
) -> None:
    """A password in it would be recorded with every artifact, unless it comes from a variable."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=message):
        mlflow_logger(tmp_path, JOB, tracking_uri=uri)
    monkeypatch.setenv("ADDRESS", uri)
    check_address(uri)


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_a_deleted_experiment_is_named(tmp_path: Path, database: str) -> None:
    """MLflow could not make another of its name."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(database)
    client.delete_experiment(client.create_experiment("deleted"))
    with pytest.raises(UserError, match=r"logger\.experiment=deleted was deleted in MLflow: restore it"):
        mlflow_logger(tmp_path, JOB, experiment="deleted", tracking_uri=database)


def test_a_second_command_keeps_the_curves_of_the_first(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """In the same folder; Lightning would delete them."""
    for _ in range(3):
        write_job(csv_logger(tmp_path, JOB))
    names = {path.name for path in tmp_path.glob("metrics*.csv")}
    assert names == {"metrics.csv", "metrics.earlier-1.csv", "metrics.earlier-2.csv"}
    assert len({(tmp_path / name).read_text() for name in names}) == 1
    assert not [str(warning.message) for warning in recwarn if "Experiment logs" in str(warning.message)]


def test_a_row_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    """Its file is written below the folder of the job."""
    logger = csv_logger(tmp_path / "job", JOB)
    log_per_query(logger, "../../up", MEASURED)
    finish(logger, Shown({}), DONE)
    assert (tmp_path / "job" / "per_query" / "_" / "_" / "up.csv").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


def test_each_of_several_trainings_has_curves_of_its_own(tmp_path: Path) -> None:
    """Under a name of its own, so that none continues or overwrites the others'."""
    logger = csv_logger(tmp_path, JOB)
    logger.log_metrics({"train/loss": 1.0}, step=1)
    TitledLogger([logger], "mono").log_metrics({"train/loss": 2.0, "validation/RR@10": 0.5}, step=1)
    finish(logger, Shown({}), DONE)
    with (tmp_path / "metrics.csv").open(encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"step", "train/loss", "train/mono/loss", "validation/mono/RR@10"}
