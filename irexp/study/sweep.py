"""The rounds of a search: trials are drawn, run as jobs by any launcher, and told to the study."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

from irexp.config.built import built
from irexp.config.override import as_typed
from irexp.study.results import write_results
from irexp.study.search import Search, make_search
from irexp.study.settings import Settings
from irexp.study.study import open_study
from irexp.study.trial import is_pruned

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

log = logging.getLogger(__name__)

#: A launcher: runs a job for each list of overrides, with numbers from the second argument on.
Launch = Callable[[Sequence[Sequence[str]], int], Sequence[JobReturn]]


def sweep(
    typed: Sequence[str], settings: Settings, config: DictConfig, loader: ConfigLoader, launch: Launch
) -> list[list[float]]:
    """Search until the study has the trials that were asked for, write the results, and log the best.

    A failed trial is not replaced, so that the sweep ends; the same command again makes the missing ones.

    Args:
        typed: the overrides of the command line.
        settings: those of the sweeper.
        config: the configuration of the sweep.
        loader: composes the configurations of its jobs.
        launch: runs jobs.

    Returns:
        The objectives of each best trial; several trials for several objectives.

    Raises:
        UserError: if the search or the study is not as it must be.
    """
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = make_search(typed, settings, config, loader)
    folder = Path(config.hydra.sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    sampler = built(settings.sampler)
    if search.is_dry:
        study = optuna.create_study(directions=settings.directions, sampler=sampler(seed=settings.seed))
        log.info("dry run: the plans of a first round, of which nothing is recorded")
        _round(study, min(settings.trials, settings.workers), search, launch, prunes_in=None, is_dry=True)
        return []
    place = (Path(settings.study) if settings.study else search.artifacts / "study" / search.digest).absolute()
    prunes_in = place if settings.prune else None
    with open_study(place, search.digest, directions=settings.directions, sampler=sampler, seed=settings.seed) as study:
        done = len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]))
        log.info("study %s: %d of %d trials are done", place, done, settings.trials)
        for start in range(done, settings.trials, settings.workers):
            count = min(settings.workers, settings.trials - start)
            _round(study, count, search, launch, prunes_in=prunes_in)
        if settings.prune and not any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
            log.warning("hydra.sweeper.prune=true had no effect: no trial reported a validation of its own fit")
        return write_results(study, search, folder)


def _round(
    study: Study, count: int, search: Search, launch: Launch, *, prunes_in: Path | None, is_dry: bool = False
) -> None:
    """Draw trials, run them and record their outcomes."""
    trials = [study.ask(dict(search.space.swept)) for _ in range(count)]
    jobs = [[*search.space.overrides(trial.params), *_of_job(trial, prunes_in)] for trial in trials]
    for trial, job in zip(trials, launch(jobs, trials[0].number), strict=True):
        if not is_dry:
            _tell(study, trial, job)


def _of_job(trial: Trial, prunes_in: Path | None) -> list[str]:
    """The overrides that tell a job its trial if it may be pruned; no artifact records overrides of Hydra itself."""
    if prunes_in is None:
        return []
    return [f"hydra.sweeper.trial={trial.number}", f"hydra.sweeper.study={as_typed(str(prunes_in))}"]


def _tell(study: Study, trial: Trial, job: JobReturn) -> None:
    """Record the outcome of a trial."""
    from optuna.trial import TrialState

    found = job._return_value  # the property of that name would print a pruned job's error, and raise it
    if isinstance(found, Exception) and is_pruned(found):
        study.tell(trial, state=TrialState.PRUNED)
        return
    if isinstance(found, Exception):
        log.error("trial %d failed: %s: %s", trial.number, type(found).__name__, found)
    values = found if isinstance(found, list) else [found]
    numbers = [value for value in values if isinstance(value, float) and math.isfinite(value)]
    if len(numbers) == len(values):
        study.tell(trial, numbers)
    else:
        study.tell(trial, state=TrialState.FAIL)
