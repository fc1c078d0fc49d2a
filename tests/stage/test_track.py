"""The trackers of a job: its name and id, what it made and used, and how it ended."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from irexp.artifact.experiment import Experiment
from irexp.artifact.plan import Plan, make_plan
from irexp.artifact.store import Store
from irexp.config.check import ConfigError
from irexp.config.installation import CONF
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from irexp.evaluation.measures import Measured
from irexp.evaluation.table import Result, make_table
from irexp.stage.execute import Outcome, execute
from irexp.stage.track import _opened, planning_tracked, shown_measures, track_table, tracked
from irexp.stage.track_name import curve_title, describe, describe_step, job_type, swept_overrides
from irexp.training.outcome import Shown
from irexp.training.tracked_job import Ending, TrackedJob
from tests.chains import Compose, settings
from tests.training.wandb_file import run_of

ComposeHydra = Callable[..., DictConfig]


@pytest.fixture
def hydra(monkeypatch: pytest.MonkeyPatch) -> ComposeHydra:
    """Makes Hydra's own configuration that of a job with some overrides; returns it with the job's."""
    register_resolvers()
    register_schema()
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)

    def _compose(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        return config

    return _compose


def plan_of(compose: Compose, overrides: list[str], stages: list[str]) -> Plan:
    """The plan of stages."""
    return make_plan(Experiment(tuple(overrides), compose(*overrides)), stages)


def run_tracked(plan: Plan, output: Path) -> None:
    """Run a plan as a job does."""
    store = Store(plan.experiment.root)
    with tracked(plan, store, output) as tracker:
        assert tracker is not None
        for step, outcome, result in execute(plan, store, output, logger_of=tracker.loggers_of):
            tracker.record(step, outcome, result)


def test_only_swept_settings_name_a_job(tmp_path: Path) -> None:
    """Whatever Hydra makes of the values that all jobs share, such as true for True."""
    (tmp_path / "multirun.yaml").write_text(
        "hydra: {overrides: {task: ['model=sbert,bm25', 'search.depth=20', dry_run=true, 'seed=range(1,3)']}}"
    )
    job = ["hydra.searchpath=[mine]", "model=sbert", "search.depth=20", "dry_run=True", "seed=1", "training.steps=3"]
    assert swept_overrides(job, tmp_path) == ["model=sbert", "seed=1", "training.steps=3"]  # the last: a sweeper's own


def test_a_job_of_a_sweep_is_named_after_what_was_swept_and_grouped(tmp_path: Path, hydra: ComposeHydra) -> None:
    """An override that refers to another setting is not resolved; a single job is named after model and collection."""
    (tmp_path / "multirun.yaml").write_text("hydra: {overrides: {task: ['seed=1,2', 'dataset.test=${dataset.dev}']}}")
    job = ["seed=2", "dataset.test=${dataset.dev}", "stage=[search,evaluate]"]
    config = hydra(*job, "hydra.mode=MULTIRUN", f"hydra.sweep.dir={tmp_path}")
    found = describe(config, job[:2])
    assert (found.name, found.group, found.stage) == ("seed=2", tmp_path.as_posix()[-128:], "evaluate")
    found = describe(hydra("model=bm25", "stage=index", "hydra.mode=RUN"), [])
    assert (found.name, found.group, found.stage) == ("bm25.aws_howto", None, "index")


def test_a_step_of_several_jobs_is_named_after_what_they_share(compose: Compose, tmp_path: Path) -> None:
    """Its id is that of its artifact, whichever jobs need it; the training of a baseline says so."""
    plan = plan_of(compose, [f"paths.artifacts={tmp_path}", "training=none"], ["fit"])
    (step,) = (step for step in plan.steps if step.artifact is not None)
    found = describe_step(step, ["seed=1", "model=sbert"], "multirun/mine")
    assert (found.name, found.stage, found.group) == ("seed=1 model=sbert", "fit", "multirun/mine")
    shared = describe_step(replace(step, reason="baseline seed=2"), [], "multirun/mine")
    assert shared.name == "sbert.aws_howto (baseline seed=2)" and shared.id == found.id


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (["fit"], "fit"),
        (["fit", "encode", "index", "search", "evaluate", "report"], "evaluate"),
        (["report"], "report"),
        ([], "none"),
    ],
)
def test_the_type_of_a_job_is_the_stage_whose_result_it_shows(stages: list[str], expected: str) -> None:
    """The last stage that makes an artifact, however the stages were typed."""
    assert job_type(stages) == expected


def test_the_id_of_a_job_is_that_of_its_settings(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Where it runs and what tracks it does not matter; a seed and a stage do."""
    base = settings(tmp_path, collection, "model=bm25")

    def job_id(*more: str, stages: str = "[index,search]") -> str:
        overrides = [*base, *more, f"stage={stages}"]
        return describe(compose(*overrides), overrides).id

    assert job_id() == job_id("machine=cpu", "logger=csv", "machine.query_batch=3")
    assert len({job_id(), job_id("seed=7"), job_id("search.depth=5"), job_id(stages="index")}) == 4


def test_the_best_validation_has_one_name_for_sweeps() -> None:
    """Whatever measure selects the checkpoint."""
    found = shown_measures(Outcome("fit", "made", measures={"validation/RR@10": 0.5, "steps": 20.0}))
    assert found == {"validation/best": 0.5, "validation/best_step": 20.0}
    assert shown_measures(Outcome("fit", "made", measures={"steps": 20.0})) == {}


def test_each_cell_of_a_table_is_shown_under_its_row_and_column(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Measures, values per query and the names of artifacts; none overwrites another's."""
    (collection / "qrels" / "other.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td5\t1\n")
    overrides = settings(
        tmp_path,
        collection,
        *("model=bm25", "logger=csv", "stage=[index,search,evaluate]"),
        'rows={BM25: [], flat: ["index.b=0"]}',
        f'columns={{here: [], there: ["dataset.test.qrels_path={collection}/qrels/other.tsv"]}}',
    )
    run_tracked(plan_of(compose, overrides, ["index", "search", "evaluate"]), tmp_path / "output")
    titles = {f"{row}/{column}" for row in ("BM25", "flat") for column in ("here", "there")}
    with (tmp_path / "output" / "metrics.csv").open(encoding="utf8") as file:
        names = {name for row in csv.DictReader(file) for name, value in row.items() if value}
    assert {name.rpartition("/")[0] for name in names if name != "step"} == {f"test/{title}" for title in titles}
    files = sorted((tmp_path / "output" / "per_query").rglob("*.csv"))
    assert {str(file.relative_to(tmp_path / "output" / "per_query").with_suffix("")) for file in files} == titles
    shown = OmegaConf.to_container(OmegaConf.load(tmp_path / "output" / "hparams.yaml"))
    assert isinstance(shown, dict) and shown["artifact"].keys() == titles
    assert len({shown["artifact"][title]["measures"] for title in titles}) == 4
    assert len({shown["artifact"][title]["index"] for title in titles}) == 2


def test_the_trainings_of_a_table_have_the_names_of_their_rows(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """A training that the columns share has the row's name alone; the only training of a job has none."""
    columns = f'columns={{here: [], there: ["dataset.test.qrels_path={collection}/qrels/test.tsv"]}}'
    overrides = settings(tmp_path, collection, 'rows={ours: [], mine: ["seed=7"]}', columns)
    plan = plan_of(compose, overrides, ["fit"])
    trainings = [step for step in plan.steps if step.stage is not None]
    assert [curve_title(plan, step) for step in trainings] == ["ours", "mine"]
    plan = plan_of(compose, settings(tmp_path, collection), ["fit"])
    assert [curve_title(plan, step) for step in plan.own] == [None]
    other = replace(plan, own=())
    (step,) = plan.own
    assert curve_title(other, step) == step.name.removeprefix("checkpoint/")


def test_a_fault_of_the_plan_is_shown_as_a_failed_job(
    tmp_path: Path, hydra: ComposeHydra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even without a plan; without a tracker, and in a dry run, only the error is raised."""
    for name, more, is_shown in (
        ("csv", (), True),
        ("none", ("logger=none",), False),
        ("dry", ("dry_run=true",), False),
    ):
        config = hydra("logger=csv", "model=bm25", "hydra.mode=RUN", *more)
        with pytest.raises(ConfigError, match="no such row"), planning_tracked(config, ["seed=1"], tmp_path / name):
            raise ConfigError(["no such row"])
        assert (tmp_path / name).exists() == is_shown
    outcome = json.loads((tmp_path / "csv" / "outcome.json").read_text())
    assert outcome["outcome"] == "failed" and "no such row" in outcome["error"]


def test_a_tracker_that_fails_does_not_hide_the_fault_of_the_plan(
    tmp_path: Path, hydra: ComposeHydra, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own error is a warning."""
    config = hydra("logger=wandb", "logger.upload=[chekpoint]", "hydra.mode=RUN")
    with pytest.raises(ConfigError, match="no such row"), planning_tracked(config, [], tmp_path):
        raise ConfigError(["no such row"])
    assert "logger.upload: 'chekpoint'" in caplog.text


def test_the_table_of_a_sweep_is_a_run_of_its_own(tmp_path: Path, hydra: ComposeHydra) -> None:
    """TensorBoard shows it in the sweep's folder."""
    measured = Measured({"RR@10": {"q1": 1.0}}, {"RR@10": 1.0}, 0, 0)
    table = make_table([Result("mine", measured), Result("other", measured)], ["RR@10"])
    track_table(hydra("logger=tensorboard", "hydra.mode=MULTIRUN", "seed=1"), table, tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    text = events.Tensors("table/results/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| mine" in text and "| other" in text


@pytest.mark.parametrize(
    ("fault", "closed", "outcome"),
    [(None, ["one", "two"], "done"), ("job", ["one", "two"], "failed"), ("two", ["one"], "failed")],
)
def test_each_tracker_is_closed_whatever_happens_to_another(
    fault: str | None,
    closed: list[str],
    outcome: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that cannot be closed is warned of and fails no job; one that cannot be opened leaves no other one open."""
    found: list[tuple[str, str]] = []

    def built(node: DictConfig) -> Callable[..., str]:
        if node.name == fault:
            raise RuntimeError(f"{fault} cannot be opened")
        return lambda output, job: str(node.name)

    def finish(logger: str, shown: Shown, ending: Ending) -> None:
        found.append((logger, ending.outcome))
        raise ConnectionError("no answer")

    monkeypatch.setattr("irexp.stage.track.built", built)
    monkeypatch.setattr("irexp.training.outcome.log_configuration", lambda *_: None)
    monkeypatch.setattr("irexp.training.outcome.finish", finish)
    node = OmegaConf.create({name: {"name": name} for name in ("one", "two")})
    with pytest.raises(RuntimeError, match=f"{fault} ") if fault else nullcontext():  # noqa: SIM117
        with _opened(node, tmp_path, TrackedJob("id", "name", "fit"), Shown({})):
            if fault == "job":
                raise RuntimeError("job failed")
    assert found == [(name, outcome) for name in closed]
    assert caplog.text.count("may lack the end of this job: ConnectionError: no answer") == len(closed)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_job_shows_its_lineage_and_that_it_failed(
    compose: Compose, tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that searches an existing index uses that and makes a run; an error marks it failed."""
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_own"))
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3600")
    overrides = settings(tmp_path, collection, "model=bm25", "logger=wandb", "stage=[search,evaluate]")
    store = Store(tmp_path / "artifacts")
    list(execute(plan_of(compose, overrides[:-1], ["index"]), store, tmp_path))
    plan = plan_of(compose, overrides, ["search", "evaluate"])
    with pytest.raises(RuntimeError), tracked(plan, store, tmp_path) as tracker:
        assert tracker is not None
        for step, outcome, result in execute(plan, store, tmp_path, logger_of=tracker.loggers_of):
            tracker.record(step, outcome, result)
        raise RuntimeError("the disk is full")
    found = run_of(tmp_path)
    assert found["exit_code"] == 1 and found["run"].job_type == "evaluate"
    assert found["summary"]["error"] == "RuntimeError: the disk is full"
    assert [name.partition(".")[0] for name in found["used"]] == ["index"]
    assert [name.partition(".")[0] for name in found["made"]] == ["run", "measures"]
    assert "test/nDCG@10" in found["summary"] and len(list(tmp_path.rglob("per_query/*.table.json"))) == 1
