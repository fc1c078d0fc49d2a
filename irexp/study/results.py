"""The results of a search, in the sweep's folder: trials, commands of the best, plots, and a record for the page."""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import shlex
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irexp.study.search import Search

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

#: The overrides that measure on the development queries.
_ON_DEVELOPMENT = ("dataset.test=${dataset.dev}", "dataset.test='${dataset.dev}'", 'dataset.test="${dataset.dev}"')

#: What the page of the sweep shows, in the sweep's folder.
RECORD = "search.json"

#: The other files, of which some are written only for some searches.
TRIALS, BEST, PLOTS = "trials.csv", "best.txt", ("history", "slice", "pareto_front", "validations")


def remove_results(folder: Path) -> None:
    """Remove what an earlier search wrote into a sweep's folder."""
    for name in (RECORD, TRIALS, BEST, *(f"{plot}.png" for plot in PLOTS)):
        (folder / name).unlink(missing_ok=True)


def write_results(study: Study, search: Search, folder: Path) -> list[list[float]]:
    """Write trials.csv, best.txt and plots, and log the best trials with their commands.

    Returns:
        The objectives of each best trial: of the best one, or for several objectives of the Pareto front.
    """
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    _write_table(trials, search, folder / TRIALS)
    states = ", ".join(
        f"{number} {state.name.lower()}"
        for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        if (number := sum(trial.state == state for trial in trials))
    )
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = [] if not complete else [study.best_trial] if len(search.objectives) == 1 else study.best_trials
    importance = _importance(study, complete, search)
    _write_record(study, trials, best, importance, search, folder / RECORD)
    if not complete:
        log.error("no trial is complete (%s); the table of trials is %s", states, folder / TRIALS)
        return []
    lines = [line for trial in best for words, command in _commands(trial, search) for line in (f"# {words}", command)]
    (folder / BEST).write_text("\n".join(lines) + "\n", encoding="utf8")
    plots = _plot(study, search, folder)
    log.info("trials: %s; %s", states, ", ".join(map(str, [folder / TRIALS, folder / BEST, *plots])))
    log.info("the best of %d trials:\n\n%s\n", len(trials), "\n".join(lines))
    return [trial.values for trial in best]


def _described(trial: FrozenTrial, search: Search) -> str:
    """A trial's number and objectives."""
    measured = zip(search.objectives, trial.values, strict=True)
    return f"trial {trial.number}: " + "  ".join(f"{name} {value:.4f}" for name, value in measured)


def _commands(trial: FrozenTrial, search: Search) -> list[tuple[str, str]]:
    """The command that runs a trial's job by itself; if it measures on development queries, also that on test ones."""
    overrides = search.space.overrides(trial.params)
    on_test = [each for each in overrides if each.replace(" ", "") not in _ON_DEVELOPMENT]
    found = [(_described(trial, search), shlex.join([*search.command, *overrides]))]
    if on_test != overrides:
        found.append((f"trial {trial.number}, on the test queries", shlex.join([*search.command, *on_test])))
    return found


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


def _write_record(
    study: Study,
    trials: list[FrozenTrial],
    best: list[FrozenTrial],
    importance: Mapping[str, Mapping[str, float]],
    search: Search,
    path: Path,
) -> None:
    """Write what the page of the sweep shows."""
    found = {
        "objectives": list(search.objectives),
        "directions": [direction.name.lower() for direction in study.directions],
        "trials": [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "values": trial.values if trial.state.name == "COMPLETE" else None,
                "seconds": trial.duration.total_seconds() if trial.duration else None,
                "settings": search.space.texts(trial.params),
            }
            for trial in trials
        ],
        "importance": importance,
        "best": [
            {"values": words, "command": command} for trial in best for words, command in _commands(trial, search)
        ],
    }
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")


def _importance(study: Study, complete: list[FrozenTrial], search: Search) -> dict[str, dict[str, float]]:
    """The share of each objective's variance that each setting explains, by functional ANOVA (Hutter et al. 2014).

    Without an objective that does not vary; none for a single setting, and without scikit-learn, which fits the forest.
    """
    if len(search.space.swept) < 2 or importlib.util.find_spec("sklearn") is None:
        return {}
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    found = {}
    for position, name in enumerate(search.objectives):
        if len({trial.values[position] for trial in complete}) < 2:
            continue
        try:
            found[name] = get_param_importances(
                study, evaluator=FanovaImportanceEvaluator(seed=0), target=partial(_value, position)
            )
        except RuntimeError as error:  # no tree of the forest splits
            log.info("the importance of settings for %s is not known: %s", name, error)
    return found


def _value(position: int, trial: FrozenTrial) -> float:
    value: float = trial.values[position]
    return value


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
