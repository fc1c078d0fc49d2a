"""The stage that tries settings on the development queries."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from tqdm import tqdm

from irexp.artifact.experiment import Experiment, composed
from irexp.artifact.plan import make_plan
from irexp.artifact.stages import STAGES
from irexp.artifact.store import Store
from irexp.evaluation.measures import parse_measures
from irexp.pipeline.component import built
from irexp.stage.execute import execute
from irexp.types import UserError

log = logging.getLogger(__name__)


def tune(output: Path, experiment: Experiment, *, sweep: Sequence[str], measure: str) -> list[str]:
    """Measure every combination of settings, write tune.md into `output`, and say which is best.

    All combinations are planned before the first is run; what a combination does not change is done already.

    Args:
        output: the job's output folder.
        experiment: what is varied; its development queries take the place of its test queries.
        sweep: the values of each setting, as `index.k1=0.9,1.2`.
        measure: what is to be as large as possible; of equal combinations the first is taken.

    Returns:
        The overrides that are best.
    """
    _check(experiment, measure)
    tried = combinations(sweep)
    plans = [make_plan(_varied(experiment, changes), _STAGES) for changes in tried]
    store = Store(experiment.root)
    rows = []
    for changes, plan in zip(tqdm(tried, desc="tune", unit=" settings"), plans, strict=True):
        *_, (_, outcome, _) = execute(plan, store, output)
        rows.append((outcome.measures[str(parse_measures([measure])[0])], changes))
    best = max(rows, key=lambda row: row[0])
    lines = [f"| settings | {measure}, development queries |", "| --- | ---: |"]
    lines += [f"| {' '.join(changes)} | {value:.4f} |" for value, changes in rows]
    (output / "tune.md").write_text("\n".join(lines) + "\n", encoding="utf8")
    log.info("tune: %s\n\n%s\n\nbest: %s", output / "tune.md", "\n".join(lines), " ".join(best[1]))
    return best[1]


#: What is run for every combination: all that makes something on the way to measures.
_STAGES = [name for name, stage in STAGES.items() if stage.makes not in (None, "speed")]


def _check(experiment: Experiment, measure: str) -> None:
    """Refuse to tune without development queries, or by what is not measured."""
    dev = experiment.config.dataset.dev
    if dev is None or next(iter(built(dev).queries()), None) is None:
        raise UserError("stage=tune needs development queries, and dataset.dev has none")
    names = {str(found) for found in parse_measures(experiment.values["evaluation"]["measures"])}
    if str(parse_measures([measure])[0]) not in names:
        raise UserError(f"stage.tune.measure={measure} is not measured; evaluation.measures has {', '.join(names)}")


def _varied(experiment: Experiment, changes: list[str]) -> Experiment:
    """The experiment with other settings, on its development queries."""
    own = [override for override in experiment.overrides if not override.startswith(("stage=", "stage."))]
    overrides = (*own, *changes, "stage=all", "dataset.test=${dataset.dev}")
    try:
        return composed(overrides)
    except UserError as error:
        name = experiment.values["model"]["name"]
        raise UserError(f"stage.tune.sweep fits no {name}, so name other settings: {error}") from error


def combinations(sweep: Sequence[str]) -> list[list[str]]:
    """Every combination of the values, in order.

    >>> combinations(["index.k1=0.9,1.2", "index.b=0.4"])
    [['index.k1=0.9', 'index.b=0.4'], ['index.k1=1.2', 'index.b=0.4']]
    """
    choices = []
    for setting in sweep:
        try:
            override = OverridesParser.create().parse_override(setting)
            is_sweep = override.is_sweep_override()
            values = list(override.sweep_string_iterator()) if is_sweep else [override.get_value_string()]
        except HydraException as error:
            raise UserError(f"stage.tune.sweep: {setting!r} names no values, as index.k1=0.9,1.2 does") from error
        if values == [""]:
            raise UserError(f"stage.tune.sweep: {setting!r} names no values, as index.k1=0.9,1.2 does")
        choices.append([f"{setting.partition('=')[0]}={value}" for value in values])
    return [list(combination) for combination in itertools.product(*choices)]
