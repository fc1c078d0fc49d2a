"""The trackers of a job: its name and id, what it made and used, and how it ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from irexp.artifact.experiment import Experiment
from irexp.artifact.plan import Plan, make_plan
from irexp.artifact.store import Store
from irexp.config.installation import CONF
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from irexp.stage.execute import Outcome, execute
from irexp.stage.track import describe, shown_measures, swept_overrides, tracked
from tests.chains import Compose, settings
from tests.training.wandb_file import run_of


@pytest.fixture
def hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra's own configuration, as in a single job."""
    register_resolvers()
    register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra_compose("config", overrides=["hydra.mode=RUN"], return_hydra_config=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    HydraConfig.instance().set_config(config)


def plan_of(compose: Compose, overrides: list[str], stages: list[str]) -> Plan:
    """The plan of stages."""
    return make_plan(Experiment(tuple(overrides), compose(*overrides)), stages)


def test_only_swept_settings_name_a_job(tmp_path: Path) -> None:
    """Whatever Hydra makes of the values that all jobs share, such as true for True."""
    (tmp_path / "multirun.yaml").write_text(
        "hydra: {overrides: {task: ['model=sbert,bm25', 'search.depth=20', dry_run=true, 'seed=range(1,3)']}}"
    )
    job = ["model=sbert", "search.depth=20", "dry_run=True", "seed=1", "training.steps=3"]
    assert swept_overrides(job, tmp_path) == ["model=sbert", "seed=1", "training.steps=3"]  # the last: a sweeper's own


def test_the_id_of_a_job_is_that_of_its_settings(
    compose: Compose, tmp_path: Path, collection: Path, hydra: None
) -> None:
    """Where it runs and what tracks it does not matter; a seed and a stage do."""
    base = settings(tmp_path, collection, "model=bm25")

    def job_id(*more: str, stages: tuple[str, ...] = ("index", "search")) -> str:
        return describe(plan_of(compose, [*base, *more], list(stages))).id

    assert job_id() == job_id("machine=cpu", "logger=csv", "machine.query_batch=3")
    assert len({job_id(), job_id("seed=7"), job_id("search.depth=5"), job_id(stages=("index",))}) == 4


def test_the_best_validation_has_one_name_for_sweeps() -> None:
    """Whatever measure selects the checkpoint."""
    found = shown_measures(Outcome("fit", "made", measures={"validation/RR@10": 0.5, "steps": 20.0}))
    assert found == {"validation/best": 0.5, "validation/best_step": 20.0}
    assert shown_measures(Outcome("fit", "made", measures={"steps": 20.0})) == {}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_job_shows_its_lineage_and_that_it_failed(
    compose: Compose, tmp_path: Path, collection: Path, hydra: None, monkeypatch: pytest.MonkeyPatch
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
        for step, outcome, result in execute(plan, store, tmp_path, logger=tracker.loggers):
            tracker.record(step, outcome, result)
        raise RuntimeError
    found = run_of(tmp_path)
    assert found["exit_code"] == 1 and found["run"].job_type == "search+evaluate"
    assert [name.partition(".")[0] for name in found["used"]] == ["index"]
    assert [name.partition(".")[0] for name in found["made"]] == ["run", "measures"]
    assert "test/nDCG@10" in found["summary"] and len(list(tmp_path.rglob("per_query/*.table.json"))) == 1
