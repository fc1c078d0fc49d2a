"""Damage every file of every artifact, and use it in every way: it is named, or the result is the genuine one.

    python -m tests.reliability.damage

Files are flipped in one byte, cut in half, removed, and one is added. An artifact is used as the experiment's own, by
its identifier and by its path, to make again what follows from it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.reliability.jobs import LOG, command, finish, write_queries

#: The kinds of artifacts, each after those that it is made from.
KINDS = ("checkpoint", "encoding", "index", "run", "measures")

WAYS = ("own", "identifier", "path")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Remove the second half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def add(path: Path) -> None:
    """Put a copy of a file beside it."""
    shutil.copy(path, path.with_name(f"added-{path.name}"))


DAMAGES: dict[str, Callable[[Path], None]] = {"flip": flip, "cut": cut, "remove": Path.unlink, "add": add}


def cases(artifacts: Path) -> Iterator[tuple[str, str, str, str]]:
    """Kind, file below the store, damage and way, of everything that is tried."""
    for kind in KINDS:
        for file in sorted(path for path in artifacts.glob(f"{kind}/[!.]*/**/*") if path.is_file()):
            for damage in DAMAGES:
                for way in WAYS if kind != "measures" else WAYS[:1]:  # no setting takes measures
                    yield kind, file.relative_to(artifacts).as_posix(), damage, way


def try_case(folder: Path, genuine: Path, case: tuple[str, str, str, str], typed: list[str]) -> str:
    """What came of a case: "named", "harmless", or what was wrong.

    Args:
        folder: a new one, to work in.
        genuine: a folder with the intact artifacts and the summary of the command that made them.
        case: one of `cases`.
        typed: the arguments of that command.
    """
    kind, file, damage, way = case
    for before in KINDS[: KINDS.index(kind) + 1]:
        shutil.copytree(genuine / "artifacts" / before, folder / "artifacts" / before)
    DAMAGES[damage](folder / "artifacts" / file)
    artifact = "/".join(file.split("/")[:2])
    given = {
        "own": [],
        "identifier": [f"artifact.{kind}={artifact}"],
        "path": [f"artifact.{kind}=artifacts/{artifact}"],
    }
    status = finish(folder, [*typed, *given[way]])
    log = (folder / LOG).read_text()
    if status != 0:
        is_named = artifact in log and Path(file).name in log and "Traceback" not in log
        return "named" if is_named else f"status {status} without naming the file\n{log[-1500:]}"
    if measures(folder) != measures(genuine):
        return f"accepted: {measures(folder)} in place of {measures(genuine)}"
    if rankings(folder) != rankings(genuine):
        return "accepted: another run"
    return "harmless"


def measures(folder: Path) -> dict[str, float]:
    """The measures that the last command in a folder reported."""
    stages = json.loads((folder / "output" / "summary.json").read_text())["stages"]
    found: dict[str, float] = next(stage["measures"] for stage in stages if stage["stage"] == "evaluate")
    return found


def rankings(folder: Path) -> set[bytes]:
    """The content of all runs of a store."""
    return {path.read_bytes() for path in (folder / "artifacts").glob("run/[!.]*/test.run")}


def main() -> int:
    """Try the cases; the exit status is 1 if damage was neither named nor harmless."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="try only every n-th case")
    chosen = parser.parse_args()
    outcomes, faults = Counter[str](), []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        typed = command(write_queries(root / "toys"), "training=none", "stage=[fit,encode,index,search,evaluate]")
        assert finish(root / "genuine", typed) == 0, (root / "genuine" / LOG).read_text()
        tried = list(cases(root / "genuine" / "artifacts"))[:: chosen.every]
        for number, case in enumerate(tried, 1):
            folder = root / "damaged"
            outcome = try_case(folder, root / "genuine", case, typed)
            shutil.rmtree(folder)
            sys.stderr.write(f"{number} of {len(tried)}: {' '.join(case)}: {outcome.splitlines()[0]}\n")
            is_good = outcome in ("named", "harmless")
            outcomes[f"{case[3]}, {case[2]}: {outcome if is_good else 'WRONG'}"] += 1
            faults += [] if is_good else [f"{' '.join(case)}: {outcome}"]
    lines = [f"{count:4} {outcome}" for outcome, count in sorted(outcomes.items())]
    sys.stdout.write("\n".join([*lines, *faults, f"{len(tried)} damaged, {len(faults)} not noticed", ""]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
