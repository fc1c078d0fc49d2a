"""The claims of an experiment: the values that experiments/<name>/expected.yaml says must come out of it.

`rows` lists them by row, collection (where the recipe names its collections) and measure; the collection `mean` is the
mean over all of them. `seeds` are the seeds over which the values are means; without it, the recipe's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from irexp.config.installation import CONF
from irexp.types import UserError

#: One folder per experiment, in a clone of the repository.
EXPERIMENTS = CONF.parent / "experiments"

#: The source of a value that is not published, but was measured with this repository.
HERE = "measured here"

#: How a claim compares with what was measured: "not measured" if it should have been, "not run" if it was left out.
Status = Literal["OK", "near", "FAIL", "not measured", "not run"]


@dataclass(frozen=True)
class Claim:
    """An expected value.

    Attributes:
        row: the label of the table's row.
        column: the name of the table's collection; "" if the recipe has only one.
        measure: the name of the measure.
        value: the expected value.
        tolerance: how far a measured value may be from it; up to twice as far is "near".
        source: where the value comes from.
    """

    row: str
    column: str
    measure: str
    value: float
    tolerance: float
    source: str

    @property
    def place(self) -> str:
        """The table's column."""
        return f"{self.column} {self.measure}".strip()

    def status(self, measured: float) -> Status:
        """Compare a measured value with the expected one."""
        distance = abs(measured - self.value)
        return "OK" if distance <= self.tolerance else "near" if distance <= 2 * self.tolerance else "FAIL"


@dataclass(frozen=True)
class Claims:
    """The claims of an experiment.

    Attributes:
        values: the expected values, in the order of the file.
        seeds: the seeds over which the values are means; empty for the recipe's own seed.
    """

    values: tuple[Claim, ...]
    seeds: tuple[int, ...] = ()

    @property
    def rows(self) -> set[str]:
        """The labels of the claimed rows."""
        return {claim.row for claim in self.values}

    @property
    def has_columns(self) -> bool:
        """Whether the recipe names its collections."""
        return any(claim.column for claim in self.values)


def names() -> list[str]:
    """The names of the experiments that have claims."""
    return sorted(path.parent.name for path in EXPERIMENTS.glob("*/expected.yaml"))


def read_claims(name: str) -> Claims:
    """The claims of an experiment.

    Raises:
        UserError: if it has none, or the file is wrong.
    """
    path = EXPERIMENTS / name / "expected.yaml"
    if not path.is_file():
        known = ", ".join(names()) or "none here; experiments/ comes with a clone of the repository"
        raise UserError(f"stage=check needs an experiment with claims: experiment=… is one of {known}")
    content: Any = OmegaConf.to_container(OmegaConf.load(path))
    if unknown := sorted(content.keys() - {"rows", "seeds"}):
        raise UserError(f"{path}: {', '.join(unknown)} is not a key of this file, which has rows and seeds")
    seeds = content.get("seeds", [])
    if not isinstance(seeds, list) or not all(isinstance(seed, int) for seed in seeds):
        raise UserError(f"{path}: seeds={seeds!r} must be a list of integers, such as [1, 2, 3]")
    found = [
        _claim(path, row, column, measure, claim)
        for row, columns in content["rows"].items()
        for column, measures in (columns if _has_columns(columns) else {"": columns}).items()
        for measure, claim in measures.items()
    ]
    return Claims(tuple(found), tuple(seeds))


def _claim(path: Path, row: str, column: str, measure: str, claim: Any) -> Claim:
    try:
        return Claim(row, column, measure, float(claim["value"]), float(claim["tolerance"]), str(claim["source"]))
    except (KeyError, TypeError, ValueError) as error:
        place = " ".join(filter(None, (row, column, measure)))
        raise UserError(f"{path}: {place} needs value, tolerance and source, and is {claim}") from error


def _has_columns(columns: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a row's claims are by collection, then by measure; else they are by measure."""
    return not any("value" in claim for claim in columns.values())
