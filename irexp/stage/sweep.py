"""The end of a sweep: one table of all jobs, and a list of their outcomes."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from irexp.artifact.plan import Placed
from irexp.artifact.store import Store
from irexp.config.schema import Evaluation, Machine
from irexp.stage.output import release
from irexp.study.results import remove_results
from irexp.training.nodes import node_rank
from irexp.types import UserError

Record = TypeVar("Record", Evaluation, Machine)

log = logging.getLogger(__name__)

#: The record of a job in its folder, and of all jobs in the sweep's; and that of a job of an earlier sweep.
RECORD, EARLIER = "summary.json", "summary.earlier.json"

#: What a job of a sweep leaves in its folder to be compared with the claims of its experiment when the sweep ends.
MEASURED = "check.json"


class SweepReport(Callback):
    """Makes the table of all jobs of a sweep and lists their outcomes, in the log and in the sweep's folder.

    The same command again runs only what is missing, since artifacts are found by their identity.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Set the records of an earlier sweep in the same folder aside: they are not of this one."""
        if node_rank(config.machine.num_nodes) == 0:
            folder = Path(config.hydra.sweep.dir)
            for path in folder.glob(f"*/{RECORD}"):
                os.replace(path, path.with_name(EARLIER))
            for path in folder.glob(f"*/{MEASURED}"):
                path.unlink()
            remove_results(folder)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Log the table of all jobs and the outcome of each; the exit status is 1 if one failed, or the table did.

        An exception would skip the rest, and Hydra would only warn of it.
        """
        from irexp.stage.check import check_sweep

        folder = Path(config.hydra.sweep.dir)
        is_broken = False
        try:
            tabulate_sweep(folder, config)
        except UserError as error:  # the jobs are done
            log.error("no table of all jobs: %s", error)
        except OSError as error:  # such as a full disk
            is_broken = True
            log.error("no table of all jobs: %s", error)
        except Exception:
            is_broken = True
            log.exception("no table of all jobs, by an error in irexp")
        try:
            check_sweep(folder)
        except OSError as error:
            is_broken = True
            log.error("no check of all jobs: %s", error)
        except Exception:
            is_broken = True
            log.exception("no check of all jobs, by an error in irexp")
        is_first = node_rank(config.machine.num_nodes) == 0
        is_broken |= not report_sweep(folder, ended="lost" if is_first else "running")
        release()
        if is_broken:
            sys.exit(1)


def tabulate_sweep(folder: Path, config: DictConfig) -> None:
    """Log the table of all jobs, and write it and its page into the sweep's folder; nothing if no job has measures.

    Its rows are models and settings, its columns the collections; seeds are averaged.

    Args:
        folder: of the sweep.
        config: of the sweep, without what was swept.

    Raises:
        UserError: if the jobs have no measure in common.
    """
    jobs = list(records(folder).values())
    cells = [Placed(Path(c["folder"]), c["row"], c["column"]) for job in jobs for c in job.get("cells", [])]
    root = Path(config.paths.artifacts)
    placed = [cell for cell in dict.fromkeys(cells) if cell.folder.parent.parent.resolve() == root.resolve()]
    if len(placed) < len(set(cells)):
        log.warning("measures outside of paths.artifacts=%s are not in the table of all jobs", root)
    if not placed:
        return
    from irexp.stage.page_study import find_study
    from irexp.stage.report import log_table, tabulate
    from irexp.stage.track import track_table

    evaluation, machine = _record(config.evaluation, Evaluation), _record(config.machine, Machine)
    store = Store(root)
    html = bool(OmegaConf.select(config, "stage.report.html"))
    table, _ = tabulate(
        placed,
        store,
        folder,
        evaluation=evaluation,
        against=config.against or {},
        mean=config.mean,
        html=html,
        study=find_study(folder) if html else None,
        machine=machine,
        swept=_swept([job.get("overrides", []) for job in jobs]),
    )
    log_table(table, folder, str(root))
    track_table(config, table, folder)


def _swept(overrides: Sequence[Sequence[str]]) -> set[str]:
    """The keys in which the overrides of jobs differ, without the collection, of which a table has a column."""
    values = [dict(override.lstrip("+").partition("=")[::2] for override in each) for each in overrides]
    keys = {key for each in values for key in each}
    return {key for key in keys if key != "dataset" and len({each.get(key) for each in values}) > 1}


def _record(config: DictConfig, type_: type[Record]) -> Record:
    """A group of the configuration as its dataclass."""
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    return type_(**{str(key): value for key, value in settings.items()})


def report_sweep(folder: Path, *, ended: Literal["lost", "stopped", "running"] = "lost") -> bool:
    """Log the outcome of each job that began, and write them to the sweep's summary.json.

    Args:
        folder: of the sweep.
        ended: what became of a job that is still recorded as running: its process ended without a word, or was stopped
            with the sweep, or it does run, on another node.

    Returns:
        Whether all of them are done, and the record is written.
    """
    jobs = records(folder)
    for place, job in jobs.items():
        if job["outcome"] == "running" != ended:
            error = "its process ended without recording why" if ended == "lost" else None
            job |= {"outcome": ended, "error": error}
            _write(place / RECORD, job)
    lines = [
        f"  {job['outcome']:8} {job['seconds']:8.1f} s  {' '.join(job['overrides'])}"
        + (f"\n           {str(job['error']).splitlines()[0]}" if job["error"] else "")
        for job in jobs.values()
    ]
    log.info("%d jobs in %s:\n%s", len(jobs), folder, "\n".join(lines))
    is_written = _write(folder / RECORD, list(jobs.values()))
    outcomes = [job["outcome"] for job in jobs.values()]
    for outcome in ("failed", "lost", "stopped"):
        if number := outcomes.count(outcome):
            log.error("%d of %d jobs %s; the same command again runs only what is missing", number, len(jobs), outcome)
    return is_written and set(outcomes) <= {"done", "pruned"}


def _write(path: Path, content: Any) -> bool:
    """Write a record; False after an error, which is logged, so that it hides no other one."""
    try:
        write_record(path, content)
    except OSError as error:
        log.error("%s is not written: %s", path, error)
        return False
    return True


def write_record(path: Path, content: Any) -> None:
    """Write a record as a whole: a killed process leaves no half of it, which the sweep could not read."""
    partial = path.with_name(f".{path.name}")
    try:
        partial.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf8")
        os.replace(partial, path)
    except OSError:
        logging.raiseExceptions = (
            False  # the log's file is in the same folder: a traceback per line would hide the error
        )
        raise


def records(folder: Path) -> dict[Path, dict[str, Any]]:
    """The record of each job of a sweep by its folder, in the order of the jobs' numbers.

    Records of earlier versions have no number; their folders usually have it for a name.
    """
    found = {path.parent: json.loads(path.read_text(encoding="utf8")) for path in folder.glob(f"*/{RECORD}")}
    return dict(sorted(found.items(), key=lambda job: (job[1].get("number") or 0, len(job[0].name), job[0].name)))
