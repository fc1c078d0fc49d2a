"""The stage that removes unused artifacts: those that neither a recipe, a table nor another used artifact needs.

Of the recipes, those count that made something in this store: all of them would take minutes to plan. What was measured
of the speed of a needed run is needed, too: tables show it beside the run's measures.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from irexp.artifact.disk import remove_folder
from irexp.artifact.experiment import composed
from irexp.artifact.lineage import Lineage
from irexp.artifact.manifest import read_manifest
from irexp.artifact.plan import draft_plan
from irexp.artifact.stages import KINDS, STAGES
from irexp.artifact.store import Store
from irexp.config.check import ConfigError
from irexp.config.installation import CONF
from irexp.config.override import as_typed
from irexp.stage.status import bytes_in, bytes_of, size, unfinished_in
from irexp.types import UserError

log = logging.getLogger(__name__)


def clean(output: Path, *, artifacts: str, tables: Sequence[str], confirm: bool, unfinished: bool = False) -> list[str]:
    """List unused artifacts, and remove them if that is confirmed.

    Args:
        output: the job's folder; nothing is written there.
        artifacts: the folder of all artifacts.
        tables: folders with tables at any depth, each table with a JSON file that names its artifacts.
        confirm: whether to remove them.
        unfinished: whether to also list what killed and failed commands left, which the same commands would resume.

    Returns:
        The names of the unused artifacts.

    Raises:
        UserError: if another process is making an artifact, or a manifest is damaged: the inputs of that artifact would
            look unused; or if it is confirmed, and these folders hold no table.
    """
    _check_tables(tables, is_confirmed=confirm)
    store = Store(Path(artifacts))
    for folder in (folder for kind in KINDS for folder in store.all(kind)):
        read_manifest(folder)
    lineage = Lineage(store)
    recipes = _recipes(" ".join(manifest["provenance"].get("command", [])) for manifest in lineage.manifests.values())
    needed = lineage.with_ancestors({*_planned(recipes, artifacts), *_rows(tables)})
    needed |= {user for name in needed for user in lineage.users[name] if user.startswith("speed/")}
    needless = [name for name in lineage.manifests if name not in needed]
    left = dict(unfinished_in(store))
    bytes_by_name = {name: bytes_of(lineage.manifests[name]) for name in needless}
    if unfinished:
        bytes_by_name |= {f"{name} (unfinished)": bytes_in(folder) for name, folder in left.items()}
    elif left:
        log.info(
            "clean: %d unfinished artifacts, %s, are kept, since the same commands resume them; "
            "stage.clean.unfinished=true lists them, too",
            len(left),
            size(sum(map(bytes_in, left.values()))),
        )
    space = sum(bytes_by_name.values())
    listed = "\n".join(f"  {name}  {size(count)}" for name, count in bytes_by_name.items()) or "  nothing"
    if busy := store.locked():
        raise UserError(f"stage=clean: another process is making {', '.join(busy)}; run stage=clean when it has ended")
    verb = "removing" if confirm else "confirm=true removes"
    log.info("clean: no recipe, table or other artifact needs these; %s %s:\n%s\n", verb, size(space), listed)
    if confirm:
        with _writing(store):
            for name in needless:
                store.remove(lineage.folders[name])
            for folder in left.values() if unfinished else ():
                remove_folder(folder)
    return needless


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    """Report a folder in which nothing can be removed."""
    try:
        yield
    except OSError as error:
        raise UserError(f"stage=clean: nothing can be removed from {store.root}: {error}") from error


def _check_tables(tables: Sequence[str], *, is_confirmed: bool) -> None:
    """Refuse to remove anything where none of the folders holds a table: what tables need would look unused.

    That a folder exists says nothing: Hydra makes one for this job.
    """
    if not tables or any(_tables_in(folder) for folder in tables):
        return
    searched = ", ".join(str(Path(folder).absolute()) for folder in tables)
    text = f"stage=clean finds no table in {searched}"
    if is_confirmed:
        raise UserError(f"{text}; name those that hold them in stage.clean.tables, or set stage.clean.tables=[]")
    log.warning("%s", text)


def _recipes(commands: Iterable[str]) -> list[str]:
    """The recipes of conf/experiment that some commands name: of those whose artifacts are here, and of few others."""
    words = {word for command in set(commands) for word in re.findall(r"[\w-]+", command)}
    return sorted(path.stem for path in (CONF / "experiment").glob("*.yaml") if path.stem in words)


def _planned(recipes: Sequence[str], artifacts: str) -> Iterator[str]:
    """The artifacts of the default experiment and of recipes, in this store."""
    for overrides in ((), *((f"experiment={name}",) for name in recipes)):
        arguments = (*overrides, f"paths.artifacts={as_typed(artifacts)}")
        try:
            experiment = composed(arguments)
        except ConfigError as error:
            log.warning(
                "clean: %s is not planned, since it lacks what is typed with it (%s); of what it made, the tables keep "
                "what they name",
                " ".join(overrides),
                error.faults[0],
            )
            continue
        plan, faults = draft_plan(experiment, experiment.stages)
        if faults:
            raise UserError(f"stage=clean cannot tell what {' '.join(overrides)} needs: {'; '.join(faults)}")
        yield from (step.name for step in plan.steps if step.artifact is not None and step.stage in STAGES.values())


def _tables_in(folder: str) -> list[Path]:
    return sorted(Path(folder).glob("**/table*.json"))


def _rows(folders: Sequence[str]) -> Iterator[str]:
    """The artifacts that the tables in some folders name."""
    for folder in folders:
        for path in _tables_in(folder):
            try:
                rows = json.loads(path.read_text(encoding="utf8"))
            except ValueError as error:
                raise UserError(f"{path} is damaged ({error}): remove it, or write its table again") from error
            for row in rows if isinstance(rows, list) else []:  # other programs' tables are no lists of rows
                yield from row.get("artifacts", []) if isinstance(row, dict) else []
