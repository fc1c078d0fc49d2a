"""The lines of `tests.benchmark.fit_peers`: what was measured, its comparison with irexp, and where it is written."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from irexp.artifact.provenance import processor
from irexp.evaluation.significance import holm, paired_t_test
from irexp.peer.lines import write_section

_NAME = "fit_peers.json"


@dataclass
class Line:
    """What was measured of a contender.

    Attributes:
        model: sbert, colbert or splade.
        name: the library, and what differs from its default.
        steps: optimizer steps of each training.
        batch_size: examples per step.
        seeds: one for each round; the other lists have a value for each.
        cpu_seconds: processor seconds per step.
        mib: the peak memory of the process in MiB.
        probe_loss: the loss of the probe before the training.
        known_positives: batches in which a query's known relevant document belongs to another query: irexp leaves it
            out, the other libraries take it for a negative.
        values: nDCG@10 per test query.
        versions: of the packages.
    """

    model: str
    name: str
    steps: int
    batch_size: int
    seeds: list[int] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    mib: list[int] = field(default_factory=list)
    probe_loss: list[float] = field(default_factory=list)
    known_positives: list[int] = field(default_factory=list)
    values: list[dict[str, float]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def ndcg(self) -> list[float]:
        """The mean over the queries, of each round."""
        return [statistics.mean(values.values()) for values in self.values]

    def add(self, seed: int, found: Mapping[str, Any], values: dict[str, float], known_positives: int) -> None:
        """Add a round.

        Args:
            seed: of the round.
            found: what `irexp.peer.worker` answered, and its versions.
            values: nDCG@10 per test query.
            known_positives: see the attribute.
        """
        self.seeds.append(seed)
        self.cpu_seconds.append(found["cpu_seconds"])
        self.mib.append(found["mib"])
        self.probe_loss.append(found["probe_loss"])
        self.known_positives.append(known_positives)
        self.values.append({query: round(value, 4) for query, value in values.items()})
        self.versions = found["versions"]

    def means(self, seeds: list[int]) -> list[float]:
        """The mean over some rounds, of each query."""
        rounds = [self.values[self.seeds.index(seed)] for seed in seeds]
        return [statistics.mean(values[query] for values in rounds) for query in sorted(rounds[0])]


def p_values(lines: list[Line]) -> dict[str, float]:
    """By line's name, that of a paired t-test against irexp, with Holm's correction.

    Args:
        lines: those of one model, irexp first; compared over the rounds that a line shares with it.
    """
    ours, *others = lines
    shared = {line.name: [seed for seed in line.seeds if seed in ours.seeds] for line in others}
    found = [paired_t_test(line.means(shared[line.name]), ours.means(shared[line.name])) for line in others]
    return dict(zip(shared, holm(found), strict=True))


def table(lines: list[Line]) -> str:
    """The Markdown table: seconds and nDCG@10 beside those of irexp in the same rounds."""
    rows = [
        "| model | trained with | CPU s per step | of irexp's | peak MiB | nDCG@10, per seed | mean | change | p |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for model in dict.fromkeys(line.model for line in lines if line.seeds):
        measured = [line for line in lines if line.model == model and line.seeds]
        ours = measured[0]
        tested = p_values(measured)
        for line in measured:
            shared = [ours.seeds.index(seed) for seed in line.seeds]
            seconds, mean = statistics.median(line.cpu_seconds), statistics.mean(line.ndcg)
            ratio = seconds / statistics.median(ours.cpu_seconds[place] for place in shared)
            change = mean - statistics.mean(ours.ndcg[place] for place in shared)
            seeds = ", ".join(f"{value:.4f}" for value in line.ndcg)
            cells = [model, line.name, f"{seconds:.3f}", f"{ratio:.2f}", f"{max(line.mib):,}", seeds, f"{mean:.4f}"]
            if (p_value := tested.get(line.name)) is None:
                cells += ["", ""]
            else:
                cells += [f"{change:+.4f}", f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001"]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def about(lines: list[Line], note: str | None) -> str:
    """What the table's values depend on: the processor, the sizes, and the versions of each library."""
    versions = {line.name: line.versions for line in lines if line.seeds and ", " not in line.name}
    first = next(line for line in lines if line.seeds)
    parts = [
        processor(),
        f"{first.steps} steps of {first.batch_size} examples",
        "batches with a known positive among the negatives, per seed: " + ", ".join(map(str, first.known_positives)),
        *(f"{name}: {', '.join(f'{key} {value}' for key, value in of.items())}" for name, of in versions.items()),
        *([note] if note else []),
    ]
    return "; ".join(parts) + "."


def read(folder: Path | None) -> list[Line]:
    """The lines that are written so far."""
    if folder is None or not (folder / _NAME).is_file():
        return []
    return [Line(**fields) for fields in json.loads((folder / _NAME).read_text(encoding="utf8"))["lines"]]


def write(lines: list[Line], folder: Path | None, note: str | None) -> str:
    """Write the lines, and their table in the folder's README.md; return the table."""
    shown = f"{about(lines, note)}\n\n{table(lines)}"
    if folder is not None:
        kept = ",\n".join(json.dumps(asdict(line)) for line in lines if line.seeds)
        (folder / _NAME).write_text(f'{{"lines": [\n{kept}\n]}}\n', encoding="utf8")
        write_section(folder / "README.md", "fit_peers", shown)
    return shown
