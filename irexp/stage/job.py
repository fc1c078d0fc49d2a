"""One job under Hydra: an experiment's baselines, its stages, its table, and a record of what came out."""

from __future__ import annotations

import copy
import json
import logging
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from irexp.artifact.candidates import candidate_config, compose_experiment, fused_configs, is_tuned
from irexp.artifact.identity import identify, is_fusing
from irexp.artifact.store import Store
from irexp.config.check import check
from irexp.evaluation.measures import parse_measures
from irexp.stage.chain import MAKES, SECTIONS, Outcome, card_of, find_artifact, plain, run_chain
from irexp.stage.fuse import check_fuse
from irexp.stage.machine import is_helper
from irexp.stage.tune import STAGES
from irexp.types import UserError

log = logging.getLogger(__name__)

#: What a baseline with another model does not take over from the experiment's command line.
_OF_A_MODEL = {
    *("backbone", "index", "loss", "regularizer", "negatives", "re_rank", "fuse"),
    *("training", "optimizer", "schedule", "encoding", "artifact"),
}


@dataclass
class Job:
    """A job's record, kept as summary.json in its output folder."""

    overrides: list[str]
    outcome: str = "running"
    error: str | None = None
    seconds: float = 0.0
    stages: list[Outcome] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the record, as far as the job has come."""
        (folder / "summary.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf8")


def run_job(config: DictConfig) -> None:
    """Run a job and record its outcome.

    A job of a sweep that fails loses no other: it is recorded, and the sweep ends with a list of what failed.
    """
    hydra = HydraConfig.get()
    output = Path(hydra.runtime.output_dir)
    job = Job(overrides=list(hydra.overrides.task))
    start = time.perf_counter()
    try:
        check(config)
        run_stages(config, job, output)
        job.outcome = "done"
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the first into the second
        job.outcome = "stopped"
        log.error("stopped; the same command goes on where it was")
        raise
    except Exception as error:
        job.outcome, job.error = "failed", f"{type(error).__name__}: {error}"
        log.error("%s", job.error if isinstance(error, UserError) else traceback.format_exc())
    finally:
        job.seconds = round(time.perf_counter() - start, 2)
        job.save(output)
    if job.outcome == "failed" and hydra.mode != RunMode.MULTIRUN:
        sys.exit(1)


def run_stages(config: DictConfig, job: Job, output: Path) -> None:
    """Run the baselines of an experiment, if it ends with a table, and then its own stages."""
    names = [str(name) for name in config.stage if str(name) in MAKES]
    ends_with_table = "report" in config.stage
    if "re_rank" in names and "search" not in names and config.re_rank.candidates is None:
        raise UserError(
            "stage=re_rank needs a run to re-rank: re_rank=bm25, re_rank.candidates=<a run file or identifier>, or the "
            "overrides of an experiment, as 're_rank.candidates=[\"model=splade\"]'"
        )
    if "fuse" in names and "search" not in names and not is_fusing(config):
        raise UserError(
            'stage=fuse needs runs to fuse: fuse=bm25_and_sbert, or \'fuse.runs=[["model=bm25"],["model=splade"]]\''
        )
    rows: list[Path] = []
    if ends_with_table and "evaluate" in names:
        for changes in config.baselines:
            rows += _measures(_run_baseline(job.overrides, list(changes), names))
        log.info("experiment: %s", " ".join(job.overrides) or "the embedded default")
    _make_candidates(config, names)
    with _tracker(config, output) as tracker:
        if "verify" in config.stage:
            instantiate(config.stage.verify, _convert_="object")()
        for outcome in run_chain(config, names, job.overrides, tracker):
            job.stages.append(outcome)
            job.save(output)
        rows += _measures(job.stages)
        tables = {}
        if ends_with_table:
            report = instantiate(config.stage.report, _convert_="object")
            tables = report(output, rows=list(dict.fromkeys(rows)) or None)
        if "push" in config.stage:
            _push(config)
        if "export" in config.stage:
            encoding, checkpoint = find_artifact(config, "encoding"), find_artifact(config, "checkpoint")
            if encoding is None:
                raise UserError(f"{config.model.name} makes no encoding to export")
            instantiate(config.stage.export, _convert_="object")(encoding, checkpoint)
        if "tune" in config.stage:
            _tune(config, job.overrides, output)
        if tracker:
            from irexp.training.tracking import log_outcome

            measured = [outcome.measures for outcome in job.stages if outcome.stage == "evaluate"]
            measures = {f"test/{name}": value for found in measured for name, value in found.items()}
            log_outcome(tracker, configuration=plain(config), measures=measures, tables=tables)


def compose_overrides(overrides: Iterable[str], changes: list[str]) -> list[str]:
    """The overrides of a baseline: the experiment's own, less what the changes replace or make meaningless."""
    replaced = {change.partition("=")[0].partition(".")[0] for change in changes if "." not in change.partition("=")[0]}
    if "model" in replaced:
        replaced |= _OF_A_MODEL
    return [override for override in overrides if _group(override) not in replaced] + changes


def _group(override: str) -> str:
    """The first part of an override's key."""
    return override.lstrip("+~").partition("=")[0].partition(".")[0].partition("@")[0]


def _run_baseline(overrides: list[str], changes: list[str], names: list[str]) -> list[Outcome]:
    log.info("baseline: %s", " ".join(changes))
    own = compose_overrides(overrides, changes)
    config = copy.deepcopy(compose_experiment(tuple(own)))
    check(config)
    _make_candidates(config, names)
    return list(run_chain(config, names, own))


def _tune(config: DictConfig, overrides: list[str], output: Path) -> None:
    """Try combinations of settings on the development queries."""
    if config.dataset.dev is None:
        raise UserError("stage=tune needs development queries, which dataset.dev does not name")
    queries = instantiate(config.dataset.dev, _convert_="object").queries()
    if next(iter(queries), None) is None:
        raise UserError("stage=tune needs development queries, and dataset.dev has none")
    own = [override for override in overrides if _group(override) != "stage"]

    def composed(changes: list[str]) -> DictConfig:
        try:
            tried = copy.deepcopy(compose_experiment((*own, *changes, "stage=all")))
        except UserError as error:
            raise UserError(f"stage.tune.sweep fits no {config.model.name}, so name other settings: {error}") from error
        tried.dataset.test = tried.dataset.dev
        return tried

    def check_all(combinations: list[list[str]]) -> None:
        for changes in combinations:
            check(composed(changes))

    def measured(changes: list[str]) -> dict[str, float]:
        tried = composed(changes)
        _make_candidates(tried, STAGES)
        return list(run_chain(tried, STAGES, [*own, *changes]))[-1].measures

    names = {str(measure) for measure in parse_measures(config.evaluation.measures)}
    measure = str(config.stage.tune.measure)
    if str(parse_measures([measure])[0]) not in names:
        raise UserError(f"stage.tune.measure={measure} is not measured; evaluation.measures has {', '.join(names)}")
    instantiate(config.stage.tune, _convert_="object")(output, measured, check_all)


def _push(config: DictConfig) -> None:
    """Publish the checkpoint with what was measured of it, if anything was."""
    checkpoint = find_artifact(config, "checkpoint")
    if not isinstance(checkpoint, Path):
        raise UserError(f"{config.model.name} has no checkpoint here to publish")
    measured = identify(config, "measures")
    store = Store(Path(config.paths.artifacts))
    card = card_of(
        config, checkpoint, str(config.stage.push.repository), store.open(measured) if store.has(measured) else None
    )
    instantiate(config.stage.push, _convert_="object")(checkpoint, card)


def _make_candidates(config: DictConfig, names: list[str]) -> None:
    """Make the runs that this job needs of other experiments.

    Those that train nothing are made on the way, as BM25's; the others only where the whole of this experiment is run.
    """
    is_whole = "fit" in names and "evaluate" in names
    for kind, entry, other in _others(config, names):
        check(other)
        if is_whole or other.artifact.checkpoint is None:
            _make_candidates(other, ["fit", "re_rank", "fuse", "evaluate"] if is_whole else ["re_rank", "fuse"])
            log.info("%s: %s", kind, " ".join(entry))
            list(run_chain(other, ["fit", "encode", "index", "search", "re_rank", "fuse"], entry))


def _others(config: DictConfig, names: list[str]) -> Iterator[tuple[str, list[str], DictConfig]]:
    """What a run of another experiment is needed for, that experiment's overrides, and its configuration."""
    for kind, stage in (("negatives", "fit"), ("candidates", "re_rank")):
        section = SECTIONS[kind]
        entry = config[section].candidates
        is_needed = stage in names and not (kind == "negatives" and config.training.steps == 0)
        if is_needed and entry is not None and not isinstance(entry, str):
            yield kind, [str(override) for override in entry], candidate_config(config, section)
    if "fuse" not in names or not is_fusing(config):
        return
    check_fuse(config.fuse, has_dev=config.dataset.dev is not None)
    for dev in (False, True) if is_tuned(config) else (False,):
        for entry, other in zip(config.fuse.runs, fused_configs(config, dev=dev), strict=True):
            if not isinstance(other, str):
                yield "fused, on development queries" if dev else "fused", [str(o) for o in entry], other


def _measures(outcomes: list[Outcome]) -> list[Path]:
    return [Path(outcome.path) for outcome in outcomes if outcome.stage == "evaluate" and outcome.path]


@contextmanager
def _tracker(config: DictConfig, output: Path) -> Iterator[Any]:
    """The tracker of a job, closed whatever happens; those of one sweep are grouped under its folder's name."""
    if config.logger is None or is_helper(config.machine):
        yield None
        return
    hydra = HydraConfig.get()
    group = Path(hydra.sweep.dir).as_posix() if hydra.mode == RunMode.MULTIRUN else None
    name = f"{config.model.name}.{config.dataset.name}"
    tracker = instantiate(config.logger, _convert_="object")(output, group=group, name=name)
    try:
        yield tracker
    finally:
        from irexp.training.tracking import finish

        finish(tracker)
