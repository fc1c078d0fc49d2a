"""A chain of stages: each makes its artifact, or finds it made.

A stage whose artifact is there is left out; one that lacks what it needs says which stage makes it.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from irexp.artifact.candidates import Section
from irexp.artifact.content import fetch_revision, is_hub_name
from irexp.artifact.identity import (
    MADE_FROM,
    Identity,
    digest_in,
    identify,
    is_fusing,
    is_made_here,
    is_re_ranking,
    locate,
)
from irexp.artifact.provenance import provenance
from irexp.artifact.store import MissingArtifactError, Store, read_manifest
from irexp.stage.card import model_card
from irexp.stage.fuse import check_fuse
from irexp.stage.machine import is_helper
from irexp.types import UserError

log = logging.getLogger(__name__)

#: The artifact that each stage makes; `report` makes tables, which are no artifact.
MAKES = {
    "fit": "checkpoint",
    "encode": "encoding",
    "index": "index",
    "search": "run",
    "re_rank": "run",
    "fuse": "run",
    "evaluate": "measures",
    "speed": "speed",
}

#: The artifacts that each stage is handed behind the folder to fill, in the order of its parameters.
NEEDS = {
    "fit": ("negatives",),
    "encode": ("checkpoint",),
    "index": ("encoding",),
    "search": ("index", "checkpoint"),
    "re_rank": ("candidates", "checkpoint"),
    "fuse": ("fused", "fused_dev"),
    "evaluate": ("run",),
    "speed": ("index", "checkpoint", "encoding"),
}

#: The section of the configuration that names each run of another experiment.
SECTIONS: dict[str, Section] = {"negatives": "negatives", "candidates": "re_rank"}

#: The stages that several nodes share.
_SHARED = {"fit", "encode", "index"}

#: Bytes of free space below which an error is one of a full disk, whatever the library says.
_SPACE = 2**20

#: What to type for the run of any experiment; what has no part in it is left out.
_MAKE_A_RUN = "stage=[fit,index,search,re_rank,fuse]"

#: The stages that go on with what a killed process left.
RESUMES = {"fit", "encode", "index"}


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


def run_chain(config: DictConfig, names: Sequence[str], overrides: list[str], logger: Any = None) -> Iterator[Outcome]:
    """Run stages in order and say what became of each, as it comes.

    Those that have no part in how this configuration makes its run are left out, unless nothing else was asked for.
    """
    pin_hub_models(config)
    for kind in MADE_FROM:
        if not is_made_here(config, kind):
            find_artifact(config, kind)  # what is given is there, before anything long begins
    for kind, section in SECTIONS.items():
        if isinstance(config[section].candidates, str):
            find_artifact(config, kind)
    if is_re_ranking(config) and "re_rank" in names and config.artifact.checkpoint is None:
        raise UserError(
            f"{config.model.name} has no checkpoint and re-ranks nothing; take re_rank=none or another model"
        )
    if is_fusing(config):
        check_fuse(config.fuse, has_dev=config.dataset.dev is not None)
        if is_re_ranking(config):
            raise UserError("fuse.runs and re_rank.candidates both say what the run is made of; leave out one")
        for number, entry in enumerate(config.fuse.runs):
            if isinstance(entry, str):
                _find_fused(config, number, entry)
    _warn_of_unused(config, overrides)
    if "speed" in names and not is_made_here(config, "run"):
        raise UserError("stage=speed measures the search that made a run, and artifact.run is one from elsewhere")
    for name in [name for name in names if not _left_out(config, name)] or names:
        outcome = run_stage(config, name, overrides, logger)
        announce(outcome)
        gc.collect()  # models of earlier stages and jobs must not crowd the next one's memory
        yield outcome


def pin_hub_models(config: DictConfig) -> None:
    """Fetch the commit of every hub model that is named without one, before identities are taken of it."""
    for path in ("backbone.name_or_path", "model.query_backbone.name_or_path", "artifact.checkpoint"):
        if path == "artifact.checkpoint" and is_made_here(config, "checkpoint"):
            continue
        fetch_revision(OmegaConf.select(config, path), root=Path(config.paths.artifacts))


def run_stage(config: DictConfig, name: str, overrides: list[str], logger: Any) -> Outcome:
    """Make the artifact of a stage, unless it is there."""
    kind = MAKES[name]
    store = Store(Path(config.paths.artifacts))
    if config.artifact[kind] is None:
        return Outcome(name, f"nothing to do: {config.model.name} has no {kind}")
    if reason := _left_out(config, name):
        return Outcome(name, f"nothing to do: {reason}")
    if not is_made_here(config, kind):
        return Outcome(name, "given", str(find_artifact(config, kind)))
    identity = identify(config, kind)
    if store.has(identity):
        return _already_done(name, store.open(identity))
    is_trained = config.training.steps != 0
    inputs = [find_artifact(config, needed) if needed != "negatives" or is_trained else None for needed in NEEDS[name]]
    if is_helper(config.machine):
        return _help(config, name, store, identity, inputs)
    log.info("%s: making %s", name, identity.name)
    start = time.perf_counter()
    with _naming_a_full_disk(store.root), store.making(identity, resumes=name in RESUMES) as making:
        if making is not None:
            call = instantiate(config.stage[name], _convert_="object")
            further = {"logger": logger} if name == "fit" else {}
            measures = call(making.folder, *inputs, **further)
            seconds = time.perf_counter() - start
            if name == "fit":
                card = model_card(
                    plain(config),
                    repository=f"{store.root.name}/{identity.name}",
                    identity=identity.name,
                    validation=measures,
                )
                (making.folder / "README.md").write_text(card, encoding="utf8")
            making.provenance = {
                "measures": measures,
                **provenance(overrides=overrides, configuration=plain(config), seconds=seconds),
            }
    if making is None:
        return _already_done(name, store.open(identity))
    return Outcome(name, "made", str(store.folder(identity)), round(seconds, 2), measures)


def _help(config: DictConfig, name: str, store: Store, identity: Identity, inputs: list[Any]) -> Outcome:
    """What the other nodes do: their share of what all make together; then they wait for the first one."""
    if name in _SHARED and (folder := store.started(identity)) is not None:
        log.info("%s: helping to make %s", name, identity.name)
        instantiate(config.stage[name], _convert_="object")(folder, *inputs)
    return _already_done(name, store.finished(identity))


@contextmanager
def _naming_a_full_disk(root: Path) -> Iterator[None]:
    """Say in words that there is no space; libraries raise it as various errors."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if os.strerror(errno.ENOSPC) not in str(error) and shutil.disk_usage(root).free > _SPACE:
            raise
        raise UserError(
            f"no space is left on the disk of {root.resolve()} ({error}); make some, or set paths.artifacts to another "
            f"disk. The same command goes on where this one stopped."
        ) from error


def _left_out(config: DictConfig, name: str) -> str | None:
    """Why a stage has no part in how this configuration makes its run."""
    if not is_made_here(config, MAKES[name]):
        return None
    if is_fusing(config):
        return "other runs are fused" if name in ("fit", "encode", "index", "search", "re_rank", "speed") else None
    if name == "fuse":
        return "nothing is fused"
    if is_re_ranking(config):
        return "another run is re-ranked" if name in ("encode", "index", "search", "speed") else None
    return "nothing is re-ranked" if name == "re_rank" else None


def find_artifact(config: DictConfig, kind: str) -> Path | str | list[Path] | None:
    """Where an artifact that a stage needs lies; a checkpoint may also be the name of a hub model, and runs several.

    Raises:
        MissingArtifactError: naming the stage that makes it, and the value that differs in the nearest one there is.
    """
    value = config.artifact[kind]
    if value is None:
        return None
    store = Store(Path(config.paths.artifacts))
    if isinstance(value, list | ListConfig):
        return [_find_fused(config, number, str(item), dev=kind == "fused_dev") for number, item in enumerate(value)]
    if not is_made_here(config, kind):
        path = locate(str(value), store.root)
        if path is not None:
            return path
        if kind == "checkpoint" and is_hub_name(value) and digest_in(str(value)) is None:
            return str(value)
        if kind in SECTIONS and digest_in(str(value)):
            raise MissingArtifactError(_missing_candidates(config, kind))
        typed = f"{SECTIONS[kind]}.candidates" if kind in SECTIONS else f"artifact.{kind}"
        looked = " nor at ".join(dict.fromkeys([str(store.root / value), str(Path(value).expanduser().absolute())]))
        raise MissingArtifactError(f"{typed}={value}: there is nothing at {looked}")
    identity = identify(config, kind)
    if store.has(identity):
        return store.open(identity)
    raise MissingArtifactError(_missing(store, _first_missing(config, store, kind)))


def _find_fused(config: DictConfig, number: int, value: str, *, dev: bool = False) -> Path:
    """Where one of the runs that are fused lies, or that their weights are tuned on."""
    root = Path(config.paths.artifacts)
    path = locate(value, root)
    if path is None:
        entry = config.fuse.runs[number]
        typed = "" if isinstance(entry, str) else " ".join(map(str, entry)) + " dataset.test='${dataset.dev}'" * dev
        made = f"; make it with {typed} {_MAKE_A_RUN}" if typed else ""
        raise MissingArtifactError(f"fuse.runs: there is no {value} in {root.resolve()}{made}, or all with stage=all")
    return path


def _first_missing(config: DictConfig, store: Store, kind: str) -> Identity:
    """The artifact to begin with: what is missing, or what that is made from and is missing, too."""
    for path in MADE_FROM[kind]:
        source = path.removeprefix("artifact.")
        if path.startswith("artifact.") and config.artifact[source] is not None and is_made_here(config, source):
            first = _first_missing(config, store, source)
            if not store.has(first):
                return first
    return identify(config, kind)


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


def _missing_candidates(config: DictConfig, kind: str) -> str:
    """What to type to make the run that is re-ranked, or that negatives come from."""
    section = SECTIONS[kind]
    overrides = " ".join(map(str, config[section].candidates))
    topics = " dataset.test='${dataset.train.topics}'" if section == "negatives" else ""
    return (
        f"{section}.candidates: there is no {config.artifact[kind]} in {Path(config.paths.artifacts).resolve()}; "
        f"make it with {overrides}{topics} {_MAKE_A_RUN}, beside what was typed for the collection"
    )


def card_of(config: DictConfig, checkpoint: Path, repository: str, measures: Path | None) -> str:
    """The card of a checkpoint that is there, with what was measured of it."""
    manifest = checkpoint / "manifest.json"
    recorded = read_manifest(checkpoint)["provenance"] if manifest.is_file() else {}
    return model_card(
        recorded.get("configuration") or plain(config),
        repository=repository,
        identity=f"checkpoint/{checkpoint.name}",
        validation=recorded.get("measures", {}),
        measures=read_manifest(measures)["provenance"]["measures"] if measures else None,
    )


def _already_done(name: str, folder: Path) -> Outcome:
    return Outcome(name, "already done", str(folder), 0.0, read_manifest(folder)["provenance"]["measures"])


def announce(outcome: Outcome) -> None:
    """One line about a stage, with its artifact, seconds and measures."""
    measures = "  ".join(
        f"{name} {value:,.0f}" if value.is_integer() else f"{name} {value:.4f}"
        for name, value in outcome.measures.items()
    )
    seconds = f" in {outcome.seconds:.1f} s" if outcome.status == "made" else ""
    log.info("%s: %s%s  %s  %s", outcome.stage, outcome.status, seconds, outcome.path or "", measures)


#: The files with which a checkpoint says what it is.
_DECIDES = ("irexp.json", "modules.json", "artifact.metadata")


def _warn_of_unused(config: DictConfig, overrides: list[str]) -> None:
    """A checkpoint from elsewhere decides its own architecture: say which typed settings have no effect."""
    if config.artifact.checkpoint is None or is_made_here(config, "checkpoint"):
        return
    path = locate(str(config.artifact.checkpoint), Path(config.paths.artifacts))
    if path is None or not any((path / file).is_file() for file in _DECIDES):
        return  # a bare transformer is what the configuration says
    used = ("model.query_length", "model.document_length", "model.name")
    unused = [o for o in overrides if o.startswith(("model.", "backbone")) and not o.startswith(used)]
    if unused:
        log.warning("%s: no effect, the checkpoint %s decides it", ", ".join(unused), config.artifact.checkpoint)


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain values."""
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    assert isinstance(plain, dict)
    plain.pop("stage")  # what the stages are made of stands above it already
    return {str(key): value for key, value in plain.items()}
