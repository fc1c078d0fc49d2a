"""How trackers name a job, and what it has several of.

A job of a sweep is named after what was swept, and its group is the sweep. If the rows and columns of its table have
names, each cell is shown under those of its row and column.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from irexp.artifact.plan import Plan, Step
from irexp.artifact.stages import STAGES
from irexp.artifact.wiring import OWN_REASON
from irexp.training.tracked_job import TrackedJob

#: Settings that say where a job runs and not what it makes: another machine resumes the same run.
_NOT_THE_JOB = {"machine", "logger", "paths", "hydra", "dry_run", "confirm", "stage"}

#: The most characters that wandb shows of a run's name.
_LONGEST_NAME = 128


def describe(
    config: DictConfig, overrides: Sequence[str], *, artifacts: Sequence[str] = (), table_of: Path | None = None
) -> TrackedJob:
    """How trackers show a job; the jobs of a sweep form a group, and each is named after what was swept.

    Args:
        config: its configuration, in which anything may be wrong.
        overrides: as typed.
        artifacts: the names of those that it was asked for.
        table_of: the folder of a sweep whose table is shown instead, after its jobs.
    """
    name = _default_name(config)
    if table_of is not None:
        return TrackedJob(_id_of(artifacts, ["table"], overrides), "table", "table", group_of(table_of))
    stages = list(OmegaConf.select(config, "stage") or {})
    identity, stage = _id_of(artifacts, stages, overrides), job_type(stages)
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return TrackedJob(identity, name[:_LONGEST_NAME], stage)
    hydra = HydraConfig.get()
    folder = Path(hydra.sweep.dir)
    swept = " ".join(swept_overrides(overrides, folder))
    return TrackedJob(identity, (swept or name)[:_LONGEST_NAME], stage, group_of(folder))


def describe_step(step: Step, swept: Sequence[str], group: str | None) -> TrackedJob:
    """How trackers show a step that is made for several jobs of a sweep at once.

    Args:
        step: the step; its id is that of its artifact alone, whichever jobs need it.
        swept: the swept overrides that these jobs have in common.
        group: the sweep's.
    """
    assert step.stage is not None
    name = " ".join(swept) or _default_name(step.experiment.config)
    if step.reason != OWN_REASON:
        name += f" ({step.reason})"
    return TrackedJob(_id_of([step.name], [step.stage.name], []), name[:_LONGEST_NAME], step.stage.name, group)


def group_of(folder: Path) -> str:
    """The group of a sweep: its folder as typed, at most what a name may have."""
    return folder.as_posix()[-_LONGEST_NAME:]


def job_type(stages: Sequence[str]) -> str:
    """The stage whose result a job shows: the last one that makes an artifact, else the last one.

    >>> job_type(["fit", "encode", "index", "search", "evaluate", "report"])
    'evaluate'
    """
    making = [name for name in stages if name in STAGES and STAGES[name].makes is not None]
    return [*stages, *making][-1] if stages else "none"


def swept_overrides(overrides: Sequence[str], sweep: Path) -> list[str]:
    """Those of a job's overrides in which the jobs of a sweep differ, by what Hydra recorded of it in its folder."""
    file, parser = sweep / "multirun.yaml", OverridesParser.create()
    typed = [override for override in overrides if _group(override) != "hydra"]
    own = {override: parser.parse_override(override).get_key_element() for override in typed}
    if not file.is_file():  # with another sweeper
        return list(own)
    recorded = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    assert isinstance(recorded, dict)
    shared = parser.parse_overrides([str(override) for override in recorded["hydra"]["overrides"]["task"]])
    fixed = {override.get_key_element() for override in shared if not override.is_sweep_override()}
    return [override for override, key in own.items() if key not in fixed]


def stage_titles(plan: Plan, step: Step) -> list[str | None]:
    """The names under which a step of the job is shown, one per cell of the table: "row/column".

    A step that all columns of a row share, such as its training, has the name of the row alone, if it has one. In a job
    whose table has no names, the only one is None.
    """
    places = [(row, column) for row, column, one in plan.places if one is step]
    if all(place == (None, None) for place in places):
        return [None]
    columns = {column for _, column, _ in plan.places}
    rows = dict.fromkeys(row for row, _ in places)
    is_measured = step.stage is not None and step.stage.name == "evaluate"
    titles: list[str | None] = []
    for row in rows:
        own = [column for name, column in places if name == row]
        is_shared = not is_measured and set(own) == columns
        titles += [row] if is_shared else [_title(row, column) for column in own]
    return titles


def curve_title(plan: Plan, step: Step) -> str | None:
    """The name under which the curves of a training are shown; None for the job's only training of its own."""
    if step not in plan.own:
        return step.name.partition("/")[2]
    return stage_titles(plan, step)[0]


def titled_names(plan: Plan) -> dict[str, Any]:
    """The names of the job's artifacts by kind; of a table with names by "row/column", and then by kind."""
    if all((row, column) == (None, None) for row, column, _ in plan.places):
        return {name: found for step in plan.own for name, found in step.names.items()}
    names: dict[str, Any] = {}
    for row, column, step in plan.places:
        names.setdefault(_title(row, column), {}).update(step.names)
    return names


def _title(row: str | None, column: str | None) -> str:
    return "/".join(name for name in (row, column) if name is not None)


def _default_name(config: DictConfig) -> str:
    """The model and the collection."""
    return f"{OmegaConf.select(config, 'model.name')}.{OmegaConf.select(config, 'dataset.name')}"


def _id_of(artifacts: Sequence[str], stages: Sequence[str], overrides: Sequence[str]) -> str:
    typed = [override for override in overrides if _group(override) not in _NOT_THE_JOB]
    settings = {"artifacts": sorted(artifacts), "stages": list(stages), "typed": typed}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _group(override: str) -> str:
    """The first part of an override's key."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0].partition(".")[0]
