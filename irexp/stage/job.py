"""One job: a configuration's baselines, its stages in order, and a record of what came out.

A stage whose artifact is there is left out; one that lacks what it needs says which stage makes it.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from irexp.artifact.identity import Identity, identify, is_made_here, locate
from irexp.artifact.provenance import provenance
from irexp.artifact.store import MissingArtifactError, Store, read_manifest
from irexp.config.check import check
from irexp.types import UserError

log = logging.getLogger(__name__)

#: The artifact that each stage makes; `report` makes tables, which are no artifact.
MAKES = {"fit": "checkpoint", "encode": "encoding", "index": "index", "search": "run", "evaluate": "measures"}

#: The artifacts that each stage is handed behind the folder to fill, in the order of its parameters.
NEEDS = {
    "fit": (),
    "encode": ("checkpoint",),
    "index": ("encoding",),
    "search": ("index", "checkpoint"),
    "evaluate": ("run",),
}

#: The stages that go on with what a killed process left.
RESUMES = {"fit", "encode"}


@dataclass
class Outcome:
    """What became of a stage.

    Attributes:
        stage: its name.
        status: made, already done, given (from elsewhere) or nothing to do.
        path: where the artifact lies.
        seconds: how long this took now.
        measures: what the stage measured, now or when it was made.
    """

    stage: str
    status: str
    path: str | None = None
    seconds: float = 0.0
    measures: dict[str, float] = field(default_factory=dict)


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
    """Run a job under Hydra and record its outcome.

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
    except (Exception, KeyboardInterrupt) as error:
        job.outcome = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        job.error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        log.error("%s", job.error if isinstance(error, UserError) else traceback.format_exc())
        if isinstance(error, KeyboardInterrupt) and hydra.mode == RunMode.MULTIRUN:
            raise
    finally:
        job.seconds = round(time.perf_counter() - start, 2)
        job.save(output)
    if job.outcome != "done" and hydra.mode != RunMode.MULTIRUN:
        sys.exit(1)


def run_stages(config: DictConfig, job: Job, output: Path) -> None:
    """Run the baselines of an experiment, if it ends with a table, and then its own stages."""
    names = [name for name in config.stage if name != "report"]
    rows: list[Path] = []
    if "report" in config.stage and names:
        for overrides in config.baselines:
            baseline_overrides = compose_overrides(job.overrides, list(overrides))
            log.info("baseline: %s", " ".join(overrides))
            baseline = compose("config", overrides=baseline_overrides)
            check(baseline)
            outcomes = run_chain(baseline, names, baseline_overrides, logger=None)
            rows += _measured(outcomes)
        log.info("experiment: %s", " ".join(job.overrides) or "the embedded default")
    logger = _logger(config, output)
    try:
        for outcome in _chain(config, names, job.overrides, logger):
            job.stages.append(outcome)
            job.save(output)
        if logger:
            _track(logger, config, job)
        if "report" in config.stage:
            rows += _measured(job.stages)
            report = instantiate(config.stage.report, _convert_="object")
            tables = report(output, rows=list(dict.fromkeys(rows)) or None)
            if logger:
                from irexp.training.tracking import log_tables

                log_tables(logger, tables)
    finally:
        if logger:
            from irexp.training.tracking import finish

            finish(logger)


def run_chain(config: DictConfig, names: Sequence[str], overrides: list[str], logger: Any) -> list[Outcome]:
    """Run stages in order and say what became of each."""
    return list(_chain(config, names, overrides, logger))


def _chain(config: DictConfig, names: Sequence[str], overrides: list[str], logger: Any) -> Any:
    for name in names:
        outcome = run_stage(config, name, overrides, logger)
        _announce(outcome)
        gc.collect()  # models of earlier stages and jobs must not crowd the next one's memory
        yield outcome


def run_stage(config: DictConfig, name: str, overrides: list[str], logger: Any) -> Outcome:
    """Make the artifact of a stage, unless it is there."""
    kind = MAKES[name]
    store = Store(Path(config.paths.artifacts))
    if config.artifact[kind] is None:
        return Outcome(name, f"nothing to do: {config.model.name} has no {kind}")
    if not is_made_here(config, kind):
        return Outcome(name, "given", str(find_artifact(config, kind)))
    identity = identify(config, kind)
    if store.has(identity):
        return _already_done(name, store.open(identity))
    inputs = [find_artifact(config, needed) for needed in NEEDS[name]]
    _warn_of_unused(config, overrides)
    log.info("%s: making %s", name, identity.name)
    start = time.perf_counter()
    with store.making(identity, resumes=name in RESUMES) as making:
        if making is not None:
            call = instantiate(config.stage[name], _convert_="object")
            further = {"logger": logger} if name == "fit" else {}
            measures = call(making.folder, *inputs, **further)
            seconds = time.perf_counter() - start
            making.provenance = {
                "measures": measures,
                **provenance(overrides=overrides, configuration=_plain(config), seconds=seconds),
            }
    if making is None:
        return _already_done(name, store.open(identity))
    return Outcome(name, "made", str(store.folder(identity)), round(seconds, 2), measures)


def find_artifact(config: DictConfig, kind: str) -> Path | str | None:
    """Where an artifact that a stage needs lies; a checkpoint may also be the name of a hub model.

    Raises:
        MissingArtifactError: naming the stage that makes it, and the value that differs in the nearest one there is.
    """
    value = config.artifact[kind]
    if value is None:
        return None
    store = Store(Path(config.paths.artifacts))
    if not is_made_here(config, kind):
        path = locate(str(value), store.root)
        if path is not None:
            return path
        if kind == "checkpoint" and not str(value).startswith((".", "/", "~", "checkpoint/")):
            return str(value)
        raise MissingArtifactError(f"artifact.{kind}={value}: there is nothing at {store.root / value} nor at {value}")
    identity = identify(config, kind)
    if store.has(identity):
        return store.open(identity)
    raise MissingArtifactError(_missing(store, identity))


def compose_overrides(overrides: list[str], changes: list[str]) -> list[str]:
    """The overrides of a baseline: the experiment's own, less what the changes replace or make meaningless."""
    replaced = {change.partition("=")[0] for change in changes}
    if "model" in replaced:
        replaced |= {"backbone", "index", "loss", "training", "optimizer", "schedule", "encoding", "artifact"}
    kept = [
        override
        for override in overrides
        if override.lstrip("+~").partition("=")[0].partition(".")[0].partition("@")[0] not in replaced
    ]
    return kept + changes


def _missing(store: Store, identity: Identity) -> str:
    stage = next(name for name, kind in MAKES.items() if kind == identity.kind)
    message = f"there is no {identity.name} in {store.root.resolve()}; make it with the same command and stage={stage}"
    nearest = store.nearest(identity)
    if nearest is None:
        return f"{message}. There is no other {identity.kind} either."
    path, found = nearest
    shown = "\n".join(f"    {line}" for line in found[:8])
    more = f"\n    and {len(found) - 8} more" if len(found) > 8 else ""
    return f"{message}. The nearest one, {identity.kind}/{path.name}, differs in\n{shown}{more}"


def _already_done(name: str, folder: Path) -> Outcome:
    return Outcome(name, "already done", str(folder), 0.0, read_manifest(folder)["provenance"]["measures"])


def _announce(outcome: Outcome) -> None:
    measures = "  ".join(f"{name} {value:.4g}" for name, value in outcome.measures.items())
    seconds = f" in {outcome.seconds:.1f} s" if outcome.status == "made" else ""
    log.info("%s: %s%s  %s  %s", outcome.stage, outcome.status, seconds, outcome.path or "", measures)


def _measured(outcomes: list[Outcome]) -> list[Path]:
    return [Path(outcome.path) for outcome in outcomes if outcome.stage == "evaluate" and outcome.path]


def _warn_of_unused(config: DictConfig, overrides: list[str]) -> None:
    """A checkpoint from elsewhere decides its own architecture: say which typed settings have no effect."""
    if config.artifact.checkpoint is None or is_made_here(config, "checkpoint"):
        return
    used = ("model.query_length", "model.document_length", "model.name")
    unused = [o for o in overrides if o.startswith(("model.", "backbone")) and not o.startswith(used)]
    if unused:
        log.warning("%s: no effect, the checkpoint %s decides it", ", ".join(unused), config.artifact.checkpoint)


def _plain(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    assert isinstance(plain, dict)
    plain.pop("stage")  # what the stages are made of stands above it already
    return {str(key): value for key, value in plain.items()}


def _logger(config: DictConfig, output: Path) -> Any:
    """The trackers of a job; those of one sweep are grouped under the sweep's folder."""
    hydra = HydraConfig.get()
    group = Path(hydra.sweep.dir).as_posix() if hydra.mode == RunMode.MULTIRUN else None
    return instantiate(config.logger, _convert_="object")(output, group=group, name=_subject(config))


def _subject(config: DictConfig) -> str:
    return f"{config.model.name}.{config.dataset.name}"


def _track(logger: Any, config: DictConfig, job: Job) -> None:
    from irexp.training.tracking import log_outcome

    measures = {f"test/{name}": value for s in job.stages if s.stage == "evaluate" for name, value in s.measures.items()}
    log_outcome(logger, configuration=_plain(config), measures=measures)


