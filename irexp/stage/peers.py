"""The stage that measures irexp's speed beside that of other libraries, on the same work and in the same run.

Each library works in an environment of its own, and they take turns (`irexp.peer`). The seconds of every round are
written to speed_<task>.json, the table to README.md and the curves to speed_<task>.svg.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from irexp.artifact.experiment import Experiment
from irexp.config.check import near
from irexp.model.device import device_of
from irexp.peer.lines import OWN, UNITS, Record, about
from irexp.peer.prepare import prepare
from irexp.peer.report import write
from irexp.peer.rounds import Contender, contenders, measure
from irexp.peer.training import FEWEST_STEPS
from irexp.peer.workers import LIBRARIES, check_pythons
from irexp.progress import progress
from irexp.types import UserError

log = logging.getLogger(__name__)

#: The groups and keys of settings that a line may change, by task; any other would change what is computed, or nothing.
_GROUPS = {
    "encode": ("machine", "encoding"),
    "re_rank": ("machine", "re_rank.precision"),
    "fit": ("machine", "training", "optimizer"),
}


def peers(
    output: Path,
    experiment: Experiment,
    *,
    task: str,
    models: Sequence[str],
    python: Mapping[str, str | None],
    variants: Mapping[str, Sequence[str]] | None,
    texts: int,
    lengths: Sequence[int],
    steps: int,
    rounds: int,
    folder: str | None,
) -> Record:
    """Measure one task for some models.

    Args:
        output: the job's folder.
        experiment: decides backbone, collection and irexp's settings.
        task: encode, re_rank or fit.
        models: options of conf/model.
        python: the interpreter of each other library's environment; None to leave it out, which the table says.
        variants: further lines of irexp: overrides by label; None for none.
        texts: how many are encoded, or pairs scored, in each turn.
        lengths: tokens per text, for the curve over the length of texts.
        steps: of each training.
        rounds: how many.
        folder: where JSON, table and curves are written; None for the job's folder.

    Raises:
        UserError: before anything is measured, if the task, a model, an interpreter or an override does not exist or
            does not fit; then if a library computes something else than irexp.
    """
    changes_of = {OWN: (), **{f"{OWN}, {label}": tuple(changes) for label, changes in (variants or {}).items()}}
    _check(task, models, changes_of)
    _check_numbers(texts=(texts, 1), steps=(steps, FEWEST_STEPS), rounds=(rounds, 1))
    check_pythons(python)
    on_gpu = device_of(experiment.values["machine"]["accelerator"]).type == "cuda"
    chosen, left_out = {}, dict[str, None]()
    for model in models:
        cells = _cells(experiment, model, changes_of, on_gpu=on_gpu)
        own = [_contender(task, cell, name, changes_of[name]) for name, cell in cells.items()]
        rows, reasons = contenders(task, model, own, python)
        reasons += [f"{name}, which needs a processor" for name in changes_of if name not in cells]
        chosen[model], left_out = (cells[OWN], rows), left_out | dict.fromkeys(reasons)
    place = Path(folder) if folder is not None else output
    record = Record(task, about(experiment), list(left_out), on_gpu=on_gpu)
    total = rounds * sum(len(rows) for _, rows in chosen.values())
    with (
        tempfile.TemporaryDirectory() as data,
        progress(total=total, unit=" turns", desc="peers", shown=experiment.values["machine"]["progress"]) as bar,
    ):
        works = {
            model: prepare(task, cell, Path(data) / model, texts=texts, lengths=lengths, steps=steps)
            for model, (cell, _) in chosen.items()
        }
        for model, (_, rows) in chosen.items():
            record.loads[model] = works[model].load
            measure(record, model, rows, works[model], rounds=rounds, advance=bar.update)
            write(record, place)
    log.info("peers: %s\n\n%s\n", place / f"speed_{task}.json", record.table())
    return record


def _cells(
    experiment: Experiment, model: str, changes_of: Mapping[str, Sequence[str]], *, on_gpu: bool
) -> dict[str, Experiment]:
    """The experiment of each line of a model; on a GPU without further lines in int8, which needs a processor."""
    cells = {name: experiment.cell([*changes, f"model={model}"]) for name, changes in changes_of.items()}
    return {
        name: cell
        for name, cell in cells.items()
        if name == OWN or not on_gpu or all(cell.values[key]["precision"] != "int8" for key in ("encoding", "re_rank"))
    }


def _check(task: str, models: Sequence[str], changes_of: Mapping[str, Sequence[str]]) -> None:
    if task not in UNITS:
        raise UserError(f"stage.peers.task={task} is not a task{near(task, UNITS)}")
    known = {model: None for library in LIBRARIES.values() for model in library.models.get(task, ())}
    for model in models:
        if model not in known:
            raise UserError(f"stage.peers.models: {model} is not compared in {task}{near(model, known)}")
    for name, changes in changes_of.items():
        for change in changes:
            key = change.partition("=")[0]
            if not {key, key.partition(".")[0]} & set(_GROUPS[task]):
                raise UserError(
                    f"stage.peers.variants: {name!r} changes {key}; in task={task} a line may change values of "
                    f"{', '.join(_GROUPS[task])}"
                )


def _check_numbers(**ranges: tuple[int, int]) -> None:
    for name, (number, least) in ranges.items():
        if number < least:
            raise UserError(f"stage.peers.{name}={number} is out of range; it must be at least {least}")


def _contender(task: str, experiment: Experiment, name: str, changes: Sequence[str]) -> Contender:
    """A line of irexp; encoding takes whole groups of settings, the other tasks what a line may change."""
    values = experiment.values
    if task == "fit":
        keys = [change.partition("=")[0].split(".", 1) for change in changes]
        settings = {group: {key: values[group][key] for own, key in keys if own == group} for group in _GROUPS[task]}
    elif task == "re_rank":
        settings = {"machine": values["machine"], "re_rank": {"precision": values["re_rank"]["precision"]}}
    else:
        settings = {group: values[group] for group in _GROUPS[task]}
    return Contender(name, overrides=tuple(changes), settings=settings)
