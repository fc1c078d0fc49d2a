"""The stage that removes what nothing needs: no recipe, no table, and no artifact that one of them needs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from irexp.artifact.experiment import CONF, composed
from irexp.artifact.lineage import Lineage
from irexp.artifact.manifest import read_manifest
from irexp.artifact.plan import draft_plan
from irexp.artifact.stages import KINDS, STAGES
from irexp.artifact.store import Store
from irexp.stage.status import bytes_of, size
from irexp.types import UserError

log = logging.getLogger(__name__)


def clean(output: Path, *, artifacts: str, tables: Sequence[str], confirm: bool) -> list[str]:
    """List what nothing needs, and remove it if that is confirmed.

    Args:
        output: the job's folder, in which nothing is written.
        artifacts: the store.
        tables: folders below which tables lie, each with the names of its artifacts.
        confirm: whether to remove.

    Returns:
        The names of the artifacts that nothing needs.

    Raises:
        UserError: if another process is making something in the store, or a manifest is damaged, since what that
            artifact is made from would look as if nothing needed it.
    """
    store = Store(Path(artifacts))
    for folder in (folder for kind in KINDS for folder in store.all(kind)):
        read_manifest(folder)
    lineage = Lineage(store)
    needed = lineage.with_ancestors({*_recipes(artifacts), *_rows(tables)})
    needless = [name for name in lineage.manifests if name not in needed]
    space = sum(bytes_of(lineage.manifests[name]) for name in needless)
    listed = "\n".join(f"  {name}  {size(bytes_of(lineage.manifests[name]))}" for name in needless) or "  nothing"
    if busy := store.locked():
        raise UserError(f"stage=clean: another process is making {', '.join(busy)}; clean when it has ended")
    verb = "removing" if confirm else "confirm=true removes"
    log.info("clean: no recipe, table or other artifact needs these; %s %s:\n%s\n", verb, size(space), listed)
    if confirm:
        for name in needless:
            store.remove(lineage.folders[name])
    return needless


def _recipes(artifacts: str) -> Iterator[str]:
    """The artifacts of the embedded default and of every recipe, with this store."""
    for overrides in ((), *((f"experiment={path.stem}",) for path in sorted((CONF / "experiment").glob("*.yaml")))):
        typed = (*overrides, f"paths.artifacts={json.dumps(artifacts)}")
        experiment = composed(typed)
        plan, faults = draft_plan(experiment, experiment.stages)
        if faults:
            raise UserError(f"stage=clean cannot tell what {' '.join(overrides)} needs: {'; '.join(faults)}")
        yield from (step.name for step in plan.steps if step.artifact is not None and step.stage in STAGES.values())


def _rows(folders: Sequence[str]) -> Iterator[str]:
    """The artifacts of every table below some folders."""
    for folder in folders:
        for path in Path(folder).glob("**/table*.json"):
            for row in json.loads(path.read_text(encoding="utf8")):
                yield from row["artifacts"]
