"""The results of a search, in the sweep's folder: a table of all trials, the commands of the best, and plots."""

from __future__ import annotations

import csv
import logging
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irexp.study.search import Search

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)


def write_results(study: Study, search: Search, folder: Path) -> list[list[float]]:
    """Write trials.csv, best.txt and plots, and log the best trials with their commands.

    Returns:
        The objectives of each best trial: of the best one, or for several objectives of the Pareto front.
    """
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    _write_table(trials, search, folder / "trials.csv")
    states = ", ".join(
        f"{number} {state.name.lower()}"
        for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        if (number := sum(trial.state == state for trial in trials))
    )
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        log.error("no trial is complete (%s); the table of trials is %s", states, folder / "trials.csv")
        return []
    best = [study.best_trial] if len(search.objectives) == 1 else study.best_trials
    lines = [line for trial in best for line in (_described(trial, search), _command(trial, search))]
    (folder / "best.txt").write_text("\n".join(lines) + "\n", encoding="utf8")
    plots = _plot(study, search, folder)
    log.info("trials: %s; %s", states, ", ".join(map(str, [folder / "trials.csv", folder / "best.txt", *plots])))
    log.info("the best of %d trials:\n\n%s\n", len(trials), "\n".join(lines))
    return [trial.values for trial in best]


def _described(trial: FrozenTrial, search: Search) -> str:
    """A comment of the shell with a trial's number and objectives."""
    measured = zip(search.objectives, trial.values, strict=True)
    return f"# trial {trial.number}: " + "  ".join(f"{name} {value:.4f}" for name, value in measured)


def _command(trial: FrozenTrial, search: Search) -> str:
    """The command that runs a trial's job by itself."""
    return shlex.join([*search.command, *search.space.overrides(trial.params)])


def _write_table(trials: list[FrozenTrial], search: Search, path: Path) -> None:
    """Write all trials of the study, each with its last validation if it was pruned."""
    with path.open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", *search.objectives, "last_validation", "seconds", *search.space.swept])
        for trial in trials:
            values = trial.values if trial.state.name == "COMPLETE" else [""] * len(search.objectives)
            last = trial.intermediate_values[trial.last_step] if trial.last_step is not None else ""
            seconds = f"{trial.duration.total_seconds():.1f}" if trial.duration else ""
            drawn = search.space.texts(trial.params)
            texts = [drawn.get(key, "") for key in search.space.swept]
            writer.writerow([trial.number, trial.state.name.lower(), *values, last, seconds, *texts])


def _plot(study: Study, search: Search, folder: Path) -> list[Path]:
    """Draw Optuna's plots that fit the study; returns their files."""
    import matplotlib
    from optuna.visualization import matplotlib as draw

    one = len(search.objectives) == 1
    plots: dict[str, Callable[[], Any]] = {}
    if one:
        plots["history"] = lambda: draw.plot_optimization_history(study, target_name=search.objectives[0])
        plots["slice"] = lambda: draw.plot_slice(study, target_name=search.objectives[0])
    elif len(search.objectives) in (2, 3):
        plots["pareto_front"] = lambda: draw.plot_pareto_front(study, target_names=list(search.objectives))
    if any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        plots["validations"] = lambda: draw.plot_intermediate_values(study)
    backend, files = matplotlib.get_backend(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that these plots are experimental, and of axes that show a single value
        matplotlib.use("agg")
        for name, plot in plots.items():
            found = plot()
            figure = (found if not hasattr(found, "__len__") else found.flat[0]).figure
            figure.savefig(folder / f"{name}.png", bbox_inches="tight", dpi=150)
            files.append(folder / f"{name}.png")
            matplotlib.pyplot.close(figure)
        matplotlib.use(backend)
    return files
