"""Which measures of a job are those of its recipe as it stands, and where they belong in the recipe's table.

What was typed beside `experiment=` may change the results: then the measures have other identities than those that the
recipe alone leads to. Values that the recipe leaves to the user may be typed, and where and how it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from irexp.artifact.experiment import Experiment, compose_experiment, composed
from irexp.artifact.identity import Identity
from irexp.artifact.plan import Placed, draft_plan
from irexp.config.check import missing_keys
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Groups and keys that change no result.
_FREE = {"experiment", "machine", "paths", "logger", "hydra", "stage", "force", "objective", "dry_run", "confirm"}


@dataclass(frozen=True)
class Measure:
    """A job's measures.

    Attributes:
        folder: of the measures.
        row: the name of its row; None to name it after its settings.
        column: the name of its column; None to name it after the collection.
        is_recipe: whether the recipe as it stands leads to exactly these measures.
    """

    folder: str
    row: str | None
    column: str | None
    is_recipe: bool

    @property
    def placed(self) -> Placed:
        """The same for a table."""
        return Placed(Path(self.folder), self.row, self.column)


@dataclass(frozen=True)
class Measures:
    """The measures of a job of a recipe.

    Attributes:
        name: of the recipe, an option of conf/experiment.
        typed: what else was typed that may change results, without the seed.
        found: the measures.
        places: the named cells of the recipe's table; empty if its rows are named after their settings.
        mean_of: the names of the collections that the recipe's mean is over; empty without one.
        is_whole: whether everything that the recipe measures is among them.
    """

    name: str
    typed: Sequence[str]
    found: Sequence[Measure]
    places: Sequence[Sequence[str]]
    mean_of: Sequence[str]
    is_whole: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measures:
        """From what `to_dict` returned."""
        return cls(**{**values, "found": [Measure(**one) for one in values["found"]]})


def measures_of(name: str, rows: Sequence[Placed], experiment: Experiment, seeds: Sequence[int]) -> Measures:
    """Find the measures of a job in the plan of its recipe as it stands.

    Args:
        name: of the recipe.
        rows: the measures of the job, baselines included.
        experiment: the job's.
        seeds: those that the recipe's claims are about; empty for the recipe's own.
    """
    typed = [override for override in experiment.overrides if _group(override) not in _FREE | {"seed"}]
    try:
        recipe = composed(_as_it_stands(experiment, seeds))
    except UserError as error:  # a value that the recipe leaves open was typed in another form
        log.warning("check: nothing is recorded, since %s alone does not compose: %s", name, error)
        return Measures(name, typed, [Measure(str(p.folder), p.row, p.column, False) for p in rows], [], [], False)
    plan, _ = draft_plan(recipe, ["evaluate", "check"])  # whose faults the job's own plan has named
    places: dict[str, list[tuple[str | None, str | None]]] = {}
    for row, column, step in plan.cells:
        if isinstance(step.artifact, Identity):
            places.setdefault(_digest(step.artifact.name), []).append((row, column))
    found = [_measure(placed, places.get(_digest(placed.folder.name), [])) for placed in rows]
    return Measures(
        name,
        typed,
        found,
        places=[[row, column or ""] for row, column, _ in plan.cells if row is not None],
        mean_of=list(recipe.values["columns"] or []) if recipe.values["mean"] else [],
        is_whole=places.keys() <= {_digest(placed.folder.name) for placed in rows},
    )


def _measure(placed: Placed, places: Sequence[tuple[str | None, str | None]]) -> Measure:
    """The measures at their place in the recipe's table, if they have one there; else where the job puts them."""
    own = (placed.row, placed.column)
    possible = [place for place in places if placed.row in (None, place[0])]
    row, column = own if not possible or own in possible else possible[0]
    return Measure(str(placed.folder), row, column, bool(possible))


def _as_it_stands(experiment: Experiment, seeds: Sequence[int]) -> list[str]:
    """The overrides of the recipe alone, with those values that it leaves to the user, and one of its claims' seeds."""
    free = [override for override in experiment.overrides if _group(override) in _FREE]
    alone = compose_experiment(tuple(free))[0]
    left = [*missing_keys(alone), *(f"dataset.{key}" for key in ("path", "id") if alone.dataset[key] is None)]
    kept = [override for override in experiment.overrides if override in free or _key(override) in left]
    if not seeds:
        return kept
    own = experiment.values["seed"]
    return [*kept, f"seed={own if own in seeds else seeds[0]}"]


def _digest(name: str) -> str:
    """The digest at the end of an artifact's name, by which the store finds it."""
    return name[-8:]


def _key(override: str) -> str:
    """The key of an override, without its package."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _group(override: str) -> str:
    """The first part of an override's key."""
    return _key(override).partition(".")[0]
