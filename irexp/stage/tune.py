"""The stage that tunes settings on the development queries."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from irexp.artifact.experiment import Experiment, composed
from irexp.artifact.plan import make_plan
from irexp.artifact.stages import STAGES
from irexp.artifact.store import Store
from irexp.config.built import built
from irexp.evaluation.measures import parse_measures
from irexp.progress import counted
from irexp.stage.execute import execute
from irexp.types import UserError

log = logging.getLogger(__name__)


def tune(output: Path, experiment: Experiment, *, sweep: Sequence[str], measure: str) -> list[str]:
    """Evaluate every combination of settings, write tune.md into `output`, and log the best.

    All combinations are planned before the first is run; artifacts that they share are made once.

    Args:
        output: the job's output folder.
        experiment: the experiment to vary, evaluated on its development queries.
        sweep: the values of each setting, such as `index.k1=0.9,1.2`.
        measure: the measure to maximise; of equal combinations the first wins.

    Returns:
        The best overrides.
    """
    _check(experiment, measure)
    tried = combinations(sweep)
    varied = [_varied(experiment, changes) for changes in tried]
    for changes, one in zip(tried, varied, strict=True):
        _check_table_and_measure(one, measure, f"stage.tune.sweep: {' '.join(changes)}: ")
    plans = [make_plan(one, _STAGES) for one in varied]
    if reason := next((plan.skipped["evaluate"] for plan in plans if "evaluate" in plan.skipped), None):
        raise UserError(f"stage=tune cannot measure the development queries: {reason}; set dataset.dev")
    store = Store(experiment.root)
    rows = []
    for changes, plan in zip(
        counted(tried, desc="tune", unit=" settings", shown=experiment.config.machine.progress), plans, strict=True
    ):
        *_, (_, outcome, _) = execute(plan, store, output)
        rows.append((outcome.measures[str(parse_measures([measure])[0])], changes))
    best = max(rows, key=lambda row: row[0])
    lines = [f"| settings | {measure}, development queries |", "| --- | ---: |"]
    lines += [f"| {' '.join(changes)} | {value:.4f} |" for value, changes in rows]
    (output / "tune.md").write_text("\n".join(lines) + "\n", encoding="utf8")
    log.info("tune: %s\n\n%s\n\nbest: %s", output / "tune.md", "\n".join(lines), " ".join(best[1]))
    return best[1]


#: The stages that are run for every combination: all on the way to measures.
_STAGES = [name for name, stage in STAGES.items() if stage.makes not in (None, "speed", "scores")]


def _check(experiment: Experiment, measure: str) -> None:
    """Refuse to tune a table, without development queries, or by a measure that is not evaluated."""
    _check_table_and_measure(experiment, measure)
    dev = experiment.config.dataset.dev
    if dev is None or next(iter(built(dev).queries()), None) is None:
        raise UserError("stage=tune needs development queries, but dataset.dev has none; set dataset.dev")


def _check_table_and_measure(experiment: Experiment, measure: str, where: str = "") -> None:
    """Refuse an experiment that is a table, or is not evaluated by the measure; `where` says which one it is."""
    if experiment.values["rows"] or experiment.values["columns"]:
        raise UserError(
            f"{where}stage=tune varies one experiment on one collection; set rows=null columns=null suite=none"
        )
    names = {str(found) for found in parse_measures(experiment.values["evaluation"]["measures"])}
    if str(parse_measures([measure])[0]) not in names:
        shown = ", ".join(sorted(names))
        raise UserError(f"{where}stage.tune.measure={measure} is not evaluated; evaluation.measures has {shown}")


def _varied(experiment: Experiment, changes: list[str]) -> Experiment:
    """The experiment with other settings, on its development queries."""
    own = [override for override in experiment.overrides if not override.startswith(("stage=", "stage."))]
    overrides = (*own, *changes, "stage=all", "dataset.test=${dataset.dev}")
    try:
        return composed(overrides)
    except UserError as error:
        name = experiment.values["model"]["name"]
        raise UserError(f"stage.tune.sweep does not fit model={name}; choose other settings: {error}") from error


def combinations(sweep: Sequence[str]) -> list[list[str]]:
    """Every combination of the values, in order.

    >>> combinations(["index.k1=0.9,1.2", "index.b=0.4"])
    [['index.k1=0.9', 'index.b=0.4'], ['index.k1=1.2', 'index.b=0.4']]
    """
    choices = []
    for setting in sweep:
        try:
            loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None
            override = OverridesParser.create(loader).parse_override(setting)  # glob chooses from the loader's options
            if override.is_interval_sweep():
                raise UserError(
                    f"stage.tune.sweep: {setting!r} has no list of values; hydra/sweeper=optuna samples intervals"
                )
            is_sweep = override.is_sweep_override()
            values = list(override.sweep_string_iterator()) if is_sweep else [override.get_value_string()]
        except HydraException as error:
            raise UserError(f"stage.tune.sweep: {setting!r} has no values; write them as index.k1=0.9,1.2") from error
        if values == [""]:
            raise UserError(f"stage.tune.sweep: {setting!r} has no values; write them as index.k1=0.9,1.2")
        choices.append([f"{setting.partition('=')[0]}={value}" for value in values])
    return [list(combination) for combination in itertools.product(*choices)]
