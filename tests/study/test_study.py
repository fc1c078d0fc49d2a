"""Rounds of a study with quick jobs: resumed, killed, failing, pruned."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from irexp.config.installation import CONF
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from irexp.stage.page_study import find_study
from irexp.study.settings import Settings
from irexp.study.study import load_study
from irexp.study.sweep import sweep
from irexp.study.trial import trial_of
from irexp.types import UserError

Job = Callable[[float], float | list[float] | None]

#: What the searches of these tests vary: a cheap model, whose jobs are not run.
TYPED = ("model=bm25", "index.k1=interval(0,1)", "baselines=[]")


class Sweep:
    """A sweep in a folder, whose jobs are calls of a function of index.k1."""

    def __init__(self, folder: Path, loader: ConfigLoader) -> None:
        """Keep studies and results in a folder."""
        self.folder, self.loader, self.typed = folder, loader, TYPED
        self.asked: list[float] = []
        self.numbers: list[int] = []

    def __call__(self, job: Job, *typed: str, **changes: Any) -> list[list[float]]:
        """Sweep with settings that differ from the defaults."""
        config = self.loader.load_configuration(
            "config",
            [
                *("hydra/sweeper=optuna", f"hydra.sweep.dir={self.folder / 'sweep'}", "hydra.mode=MULTIRUN"),
                *(f"paths.artifacts={self.folder / 'artifacts'}", *self.typed, *typed),
            ],
            RunMode.MULTIRUN,
        )
        node = config.hydra.sweeper
        keys = {"trials": 4, "workers": 1, "seed": 1, "directions": ("maximize",), "prune": False, **changes}
        settings = Settings(sampler=node.sampler, pruner=node.pruner, study=None, params={}, **keys)
        arguments = list(OmegaConf.to_container(config.hydra.overrides.task) or [])

        def launch(jobs: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
            return [self._run(job, overrides, first + place) for place, overrides in enumerate(jobs)]

        return sweep([str(argument) for argument in arguments], settings, config, self.loader, launch)

    def _run(self, job: Job, overrides: Sequence[str], number: int) -> JobReturn:
        """Run a job as Hydra does: an exception is returned."""
        (value,) = (float(each.partition("=")[2]) for each in overrides if each.startswith("index.k1="))
        self.asked.append(value)
        self.numbers.append(number)
        found = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
        try:
            found.return_value = job(value)
        except Exception as error:
            found.status, found.return_value = JobStatus.FAILED, error
        return found

    @property
    def study(self) -> optuna.Study:
        """The only study of the folder."""
        (folder,) = (self.folder / "artifacts" / "study").iterdir()
        return load_study(folder, optuna.pruners.NopPruner())

    @property
    def states(self) -> list[TrialState]:
        """The states of the trials, in their order."""
        return [trial.state for trial in self.study.trials]


@pytest.fixture
def sweeping(tmp_path: Path) -> Iterator[Sweep]:
    """A sweep in the test's folder."""
    register_resolvers()
    register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield Sweep(tmp_path, GlobalHydra.instance().config_loader())


def test_the_same_command_again_makes_only_missing_trials_and_draws_others(sweeping: Sweep) -> None:
    """A resumed sampler with the same seed would draw the first trials again."""
    sweeping(lambda value: value, trials=3)
    assert len(sweeping.asked) == 3
    sweeping(lambda value: value, trials=3)
    assert len(sweeping.asked) == 3
    sweeping(lambda value: value, trials=6, workers=2)
    assert len(set(sweeping.asked)) == 6
    assert sweeping.numbers == [0, 1, 2, 3, 4, 5]
    assert sweeping.states == [TrialState.COMPLETE] * 6


def test_another_search_space_is_another_study(sweeping: Sweep) -> None:
    """Where files go and how many trials are wanted is not part of it; a fixed value is."""
    sweeping(lambda value: value, "machine=cpu", trials=1)
    sweeping(lambda value: value, "logger=csv", trials=2)
    assert len(list((sweeping.folder / "artifacts" / "study").iterdir())) == 1
    sweeping(lambda value: value, "search.depth=7", trials=1)
    sweeping(lambda value: value, "index.k1=interval(0,2)", trials=1)
    assert len(list((sweeping.folder / "artifacts" / "study").iterdir())) == 3


def test_other_content_in_a_file_is_another_study(sweeping: Sweep, collection: Path) -> None:
    """The same command with other judgements draws its trials again, whatever the sampler's seed is."""
    typed = ("dataset=local", f"dataset.path={collection}")
    sweeping(lambda value: value, *typed, trials=1)
    sweeping(lambda value: value, *typed, trials=1, seed=5)
    assert len(list((sweeping.folder / "artifacts" / "study").iterdir())) == 1
    (collection / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td3\t1\n")
    sweeping(lambda value: value, *typed, trials=1)
    assert len(list((sweeping.folder / "artifacts" / "study").iterdir())) == 2


def test_other_content_in_any_choice_is_another_study(sweeping: Sweep, tmp_path: Path) -> None:
    """Whichever of the swept files it is, not only that of the job that is drawn as a sample."""
    files = [tmp_path / name for name in ("a.run", "b.run", "c.run")]
    for number, file in enumerate(files):
        file.write_text(f"q{number} Q0 d1 1 1.0 x\n")
    typed = "artifact.run=" + ",".join(map(str, files))
    studies = sweeping.folder / "artifacts" / "study"
    sweeping(lambda value: 1.0, typed, "stage=evaluate", trials=1)
    for number, file in enumerate(files, 2):
        file.write_text("q9 Q0 d1 1 1.0 x\n")
        sweeping(lambda value: 1.0, typed, "stage=evaluate", trials=1)
        assert len(list(studies.iterdir())) == number
    sweeping(lambda value: 1.0, typed, "stage=evaluate", trials=1)
    assert len(list(studies.iterdir())) == 4


def test_the_best_of_development_queries_is_also_a_command_on_test_queries(sweeping: Sweep, collection: Path) -> None:
    """Settings are chosen on the former, and what is reported is measured on the latter."""
    on_dev = "dataset.test=${dataset.dev}"
    sweeping(lambda value: value, "dataset=local", f"dataset.path={collection}", on_dev, trials=1)
    _, command, comment, other = (sweeping.folder / "sweep" / "best.txt").read_text().splitlines()
    assert comment == "# trial 0, on the test queries"
    assert on_dev in shlex.split(command)
    assert shlex.split(other) == [word for word in shlex.split(command) if word != on_dev]


def test_the_best_trial_is_printed_as_a_command(sweeping: Sweep) -> None:
    """Its overrides are those of the sweep with the drawn values; the table lists every trial."""
    assert sweeping(lambda value: -abs(value - 0.5)) == [[max(-abs(value - 0.5) for value in sweeping.asked)]]
    best = min(sweeping.asked, key=lambda value: abs(value - 0.5))
    comment, command = (sweeping.folder / "sweep" / "best.txt").read_text().splitlines()
    assert comment.startswith(f"# trial {sweeping.asked.index(best)}: nDCG@10 -0.")
    artifacts = f"paths.artifacts={sweeping.folder / 'artifacts'}"
    assert shlex.split(command) == ["python", "run.py", artifacts, "model=bm25", "baselines=[]", f"index.k1={best}"]
    with (sweeping.folder / "sweep" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["index.k1"]) for row in rows] == sweeping.asked
    for plot in ("history", "slice"):
        assert (sweeping.folder / "sweep" / f"{plot}.png").read_bytes().startswith(b"\x89PNG")


def test_the_record_of_a_search_is_what_its_page_shows(sweeping: Sweep) -> None:
    """All trials, the best command, and a greater importance of the setting that decides the objective."""
    sweeping(lambda value: value, "index.b=interval(0,1)", trials=12)
    found = find_study(sweeping.folder / "sweep")
    assert found is not None
    assert [trial.values for trial in found.trials] == [(value,) for value in sweeping.asked]
    assert (found.objectives, found.directions) == (("nDCG@10",), ("maximize",))
    share_of = found.importance["nDCG@10"]
    assert share_of["index.k1"] > 2 * share_of["index.b"] and sum(share_of.values()) == pytest.approx(1)
    ((words, command),) = found.best
    _, written = (sweeping.folder / "sweep" / "best.txt").read_text().splitlines()
    assert command == written and words.endswith(f"nDCG@10 {max(sweeping.asked):.4f}")
    sweeping(lambda value: None, "search.depth=5", trials=1)
    failed = find_study(sweeping.folder / "sweep")
    assert failed is not None and failed.best == () and failed.importance == {} and len(failed.trials) == 1


def test_a_failing_trial_stops_no_other_and_the_same_command_replaces_it(sweeping: Sweep) -> None:
    """An exception, no value and one that is not a number are failures; the sweep ends, and its best is the rest's."""
    outcomes: Iterator[Any] = iter([0.5, ValueError("broken"), None, float("nan"), 0.25, 0.75, 0.125])

    def job(_: float) -> float | None:
        found = next(outcomes)
        if isinstance(found, Exception):
            raise found
        return None if found is None else float(found)

    assert sweeping(job, trials=4, workers=2) == [[0.5]]
    failed = [TrialState.FAIL] * 3
    assert sweeping.states == [TrialState.COMPLETE, *failed]
    assert sweeping(job, trials=4) == [[0.75]]
    assert sweeping.states == [TrialState.COMPLETE, *failed, *[TrialState.COMPLETE] * 3]


def test_a_sweep_ends_if_every_trial_fails(sweeping: Sweep, caplog: pytest.LogCaptureFixture) -> None:
    """A sweep that waited for complete trials would never end."""
    assert sweeping(lambda value: None, trials=3) == []
    assert len(sweeping.asked) == 3
    assert "no trial is complete (3 fail)" in caplog.text


def test_the_trial_of_a_killed_sweep_fails_and_is_tried_again_once(sweeping: Sweep) -> None:
    """Its settings are drawn first, so that its fit resumes; if they kill again, others are drawn."""

    def killed(value: float) -> float:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            sweeping(killed, trials=2)
    sweeping(lambda value: value, trials=2)
    first, again, *others = sweeping.asked
    assert first == again
    assert first not in others
    assert len(others) == 2
    assert sweeping.states == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]


def test_a_second_sweep_of_the_same_study_is_refused_while_the_first_runs(sweeping: Sweep) -> None:
    """It would take the running trials for those of a killed sweep."""

    def job(value: float) -> float:
        with pytest.raises(UserError, match="another process sweeps the study"):
            sweeping(lambda value: value)
        return value

    sweeping(job, trials=1)
    assert sweeping.states == [TrialState.COMPLETE]


def test_several_objectives_have_a_direction_each(sweeping: Sweep) -> None:
    """The best are those that no other beats in both."""
    objectives = "objective=[nDCG@10,R@100]"
    with pytest.raises(UserError, match="objective names 2: nDCG@10, R@100; give one direction for each"):
        sweeping(lambda value: value, objectives)
    found = sweeping(lambda value: [value, value], objectives, directions=("maximize", "minimize"))
    assert sorted(found) == sorted([value, value] for value in sweeping.asked)
    assert (sweeping.folder / "sweep" / "pareto_front.png").is_file()
    assert len((sweeping.folder / "sweep" / "best.txt").read_text().splitlines()) == 2 * len(found)


@pytest.mark.parametrize(
    ("typed", "changes", "words"),
    [
        ((), {"trials": 0}, "hydra.sweeper.trials=0 is out of range; it must be at least 1"),
        ((), {"prune": True, "directions": ("minimize",)}, "compares validations, of which the highest is best"),
        (("hydra/launcher=graph",), {"prune": True}, "prune=true cannot end a fit under hydra/launcher=graph"),
        (("hydra/launcher=slurm",), {"prune": True}, "prune=true cannot end a fit under hydra/launcher=slurm"),
        (('rows={a: ["seed=1"], b: ["seed=2"]}',), {}, "none of the rows a, b is this experiment itself"),
        (("machine.num_nodes=2",), {}, "machine.num_nodes=2: each node would draw trials of its own"),
        (("stage=index",), {}, "measures nothing to search for"),
        (("objective=[nDCG@11]",), {}, "does not measure nDCG@11; did you mean nDCG@10?"),
    ],
)
def test_a_search_that_cannot_work_is_refused_before_the_first_trial(
    sweeping: Sweep, typed: tuple[str, ...], changes: dict[str, Any], words: str
) -> None:
    """In one line."""
    with pytest.raises(UserError) as error:
        sweeping(lambda value: value, *typed, **changes)
    assert words in str(error.value)
    assert sweeping.asked == []


def test_a_trial_with_several_fits_is_not_pruned(sweeping: Sweep) -> None:
    """Columns that train a model each report validations that cannot be compared."""
    sweeping.typed = ("model=sbert", "stage=fit", "training.steps=int(interval(1,9))")
    with pytest.raises(UserError, match="one fit per trial, and the columns train 2 models"):
        sweeping(lambda value: value, 'columns={a: [], b: ["seed=2"]}', prune=True, trials=1)
    assert sweeping.asked == []


def test_a_dry_run_records_nothing(sweeping: Sweep) -> None:
    """Its jobs return None, which would be failures."""
    assert sweeping(lambda value: None, "dry_run=true", trials=4, workers=2) == []
    assert len(sweeping.asked) == 2
    assert not (sweeping.folder / "artifacts").exists()


def test_a_job_opens_its_trial_and_prunes_by_the_others(sweeping: Sweep) -> None:
    """From its configuration alone, as in another process; a pruned trial counts as done."""
    reported: list[float] = []

    def job(value: float) -> float:
        (folder,) = (sweeping.folder / "artifacts" / "study").iterdir()
        node = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1}
        found = trial_of(DictConfig({"study": str(folder), "trial": len(reported), "pruner": node}))
        assert found is not None
        trial = found.opened()
        reported.append(-len(reported))
        trial.report(reported[-1], 2)
        if trial.should_prune():
            raise optuna.TrialPruned
        return value

    sweeping(job, trials=3, prune=True)
    assert sweeping.states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED]
    assert [trial.intermediate_values for trial in sweeping.study.trials] == [{2: 0.0}, {2: -1.0}, {2: -2.0}]
    assert trial_of(DictConfig({"params": None})) is None
