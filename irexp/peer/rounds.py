"""Measure irexp and other libraries in turns: each round lets every one do the same work, in another order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irexp.peer.limits import Limits
from irexp.peer.lines import Line, Load, Point, Record
from irexp.peer.training import FEWEST_STEPS, Training
from irexp.peer.work import Texts, Work
from irexp.peer.workers import LIBRARIES, Worker, worker
from irexp.types import UserError

#: How far results in fp32 may be from irexp's, see `Line.difference`, and results in another precision.
TOLERANCE, LOWER_TOLERANCE = 1e-3, 0.3


@dataclass(frozen=True)
class Contender:
    """What is measured: a library, or irexp with other settings.

    Attributes:
        name: of its line.
        library: irexp, or a key of `LIBRARIES`.
        python: the interpreter of its environment; None for this one.
        overrides: of irexp: what differs from its defaults.
        settings: of irexp: values of its configuration, by group.
    """

    name: str
    library: str = "irexp"
    python: str | None = None
    overrides: tuple[str, ...] = ()
    settings: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """Of its matrix products."""
        chosen = [str(self.settings[key]["precision"]) for key in ("encoding", "re_rank") if key in self.settings]
        return chosen[0] if chosen else "float32"


def contenders(
    task: str, model: str, own: Sequence[Contender], pythons: Mapping[str, str | None]
) -> tuple[list[Contender], list[str]]:
    """Irexp with its settings, and the libraries that have the model; and why the others are left out."""
    found, left_out = list(own[:1]), []
    for key, library in LIBRARIES.items():
        if model not in library.models.get(task, ()):
            continue
        if (python := pythons.get(key)) is None:
            left_out.append(f"{library.name}, since stage.peers.python.{key} is not set")
        else:
            found.append(Contender(library.name, key, python))
    return [*found, *own[1:]], left_out


@dataclass(frozen=True)
class Computing:
    """Encoding or re-ranking, as the work of a turn.

    Attributes:
        load: how much is computed in a turn.
        limits: measures those of the machine, at the model's shapes.
        folder: for results.
        work: all texts, without settings.
        lengths: texts for the curve over the length of texts, of the contenders without other settings.
    """

    load: Load
    limits: Callable[[], Limits]
    folder: Path
    work: Work
    lengths: tuple[Texts, ...] = ()

    def turn(self, row: Contender, started: Worker, threads: int | None, path: str | None = None) -> dict[str, Any]:
        """Let a worker compute, all texts or those of a file."""
        return started.ask(asdict(self._of(row, threads=threads, path=path or self.work.path)))

    def result(self, row: Contender, started: Worker) -> NDArray[np.float32]:
        """What a worker computes."""
        path = self.folder / "result.npy"
        started.ask(asdict(self._of(row, threads=1, result=str(path))))
        found: NDArray[np.float32] = np.load(path).ravel()
        return found

    def _of(self, row: Contender, **changes: Any) -> Work:
        return replace(self.work, settings={group: dict(values) for group, values in row.settings.items()}, **changes)


@dataclass(frozen=True)
class Steps:
    """Steps of training, as the work of a turn.

    Attributes:
        load: how much is computed per step.
        limits: measures those of the machine, at the model's shapes.
        folder: for trained models.
        training: without settings.
        lengths: no curve.
    """

    load: Load
    limits: Callable[[], Limits]
    folder: Path
    training: Training
    lengths: tuple[Texts, ...] = ()

    def turn(self, row: Contender, started: Worker, threads: int | None) -> dict[str, Any]:
        """Let a worker train from the beginning."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        settings = {group: dict(values) for group, values in row.settings.items()}
        training = replace(self.training, threads=threads, settings=settings)
        found = started.ask({"task": "fit", "training": asdict(training), "folder": str(place / "model")})
        shutil.rmtree(place)
        return found

    def result(self, row: Contender, started: Worker) -> NDArray[np.float32]:
        """The loss that a worker has before its first step."""
        short = replace(self, training=replace(self.training, steps=FEWEST_STEPS))
        return np.array([short.turn(row, started, 1)["probe_loss"]], np.float32)


def measure(
    record: Record,
    model: str,
    rows: Sequence[Contender],
    work: Computing | Steps,
    *,
    rounds: int,
    advance: Callable[[], object] = lambda: None,
) -> None:
    """Let each contender work once and compare the results; then measure all in each round.

    Args:
        record: gets the lines and points.
        model: what is compared.
        rows: irexp's default first.
        work: of a turn.
        rounds: how many.
        advance: called after each turn.

    Raises:
        UserError: if one computes something else than irexp.
    """
    with ExitStack() as stack:
        started = [stack.enter_context(worker(row.library, row.python)) for row in rows]
        lines = [
            Line(model, row.name, list(row.overrides), row.precision, versions=one.versions)
            for row, one in zip(rows, started, strict=True)
        ]
        turns = list(zip(rows, started, lines, strict=True))
        kinds: dict[int | None, str] = {None: "wall_seconds"}
        if not record.on_gpu:
            kinds = {1: "cpu_seconds", **kinds}
        _compare(work, turns)
        record.lines += lines
        record.limits[model] = []
        points = {
            (row.name, texts.path): Point(model, row.name, texts.length, texts.count)
            for row in rows
            for texts in (() if row.overrides else work.lengths)
        }
        record.points += points.values()
        for number in range(rounds):
            record.limits[model].append(work.limits())
            first = number % len(turns)
            for row, one, line in turns[first:] + turns[:first]:
                for threads, kind in kinds.items():
                    found = work.turn(row, one, threads)
                    getattr(line, kind).append(found[kind])
                    line.mib = found["mib"]
                for texts in work.lengths if not row.overrides else ():
                    assert isinstance(work, Computing)
                    threads, kind = next(iter(kinds.items()))
                    found = work.turn(row, one, threads, str(texts.path))
                    points[row.name, texts.path].seconds.append(found[kind])
                advance()


def _compare(work: Computing | Steps, turns: Sequence[tuple[Contender, Worker, Line]]) -> None:
    """Let each contender work once, and compare the results with those of the first."""
    expected = work.result(*turns[0][:2])
    for row, one, line in turns:
        line.difference = difference(line, work.result(row, one), expected)


def difference(line: Line, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """How far a line's results are from irexp's: the norm of the difference, relative to that of irexp's.

    Raises:
        UserError: if it is so large that something else is computed.
    """
    hint = "compare a version of it that reads irexp's checkpoint alike, or leave it out (stage.peers.python)"
    if len(found) != len(expected):
        raise UserError(f"{line.model}: {line.name} computes {len(found):,} values, irexp {len(expected):,}; {hint}")
    share = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    allowed = TOLERANCE if line.precision == "float32" else LOWER_TOLERANCE
    if not share <= allowed:
        raise UserError(
            f"{line.model}: the results of {line.name} differ from irexp's by {share:.2g} of their norm, more than "
            f"{allowed:g}, so that the work is not the same; {hint}"
        )
    return share
