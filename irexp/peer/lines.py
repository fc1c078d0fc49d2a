"""What was measured of irexp and the other libraries: the record and its table."""

from __future__ import annotations

import statistics
from dataclasses import astuple, dataclass, field
from pathlib import Path

import torch

from irexp.artifact.experiment import Experiment
from irexp.artifact.hardware import usable_processors
from irexp.artifact.provenance import processor
from irexp.model.device import device_of
from irexp.peer.limits import Limits

#: What a task does per second.
UNITS = {"encode": "documents", "re_rank": "pairs", "fit": "examples"}

#: The name of irexp's line without changes, beside which the others stand.
OWN = "irexp"


@dataclass
class Line:
    """What was measured of a library, or of irexp with other settings.

    Attributes:
        model: sbert, colbert, mono or splade.
        name: the library, and what differs from its defaults.
        overrides: of irexp: what differs.
        precision: of its matrix products: float32, or another one of conf/encoding or conf/re_rank.
        difference: of its results from those of irexp's default, as a share of the norm of these; in training that of
            the loss before the first step.
        mib: the peak memory of its process in MiB, or what that took of a GPU's.
        cpu_seconds: processor seconds with one thread, of each round; of a training per step; none on a GPU.
        wall_seconds: wall-clock seconds with all cores, likewise.
        versions: of the packages.
    """

    model: str
    name: str
    overrides: list[str]
    precision: str
    difference: float = 0.0
    mib: int = 0
    cpu_seconds: list[float] = field(default_factory=list)
    wall_seconds: list[float] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """The median of the processor seconds, on a GPU of the wall-clock seconds."""
        return statistics.median(self.cpu_seconds or self.wall_seconds)


@dataclass
class Point:
    """A point of the curve over the length of texts.

    Attributes:
        model: as in `Line`.
        name: as in `Line`.
        length: tokens per text, the mean.
        texts: how many.
        seconds: processor seconds with one thread, of each round; on a GPU wall-clock seconds.
    """

    model: str
    name: str
    length: float
    texts: int
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Load:
    """What is computed in each turn.

    Attributes:
        items: texts, pairs, or examples per step.
        tokens: of all of them, without padding.
        operations: floating-point operations per token in the linear layers of the transformer's stack.
    """

    items: int
    tokens: int
    operations: int


@dataclass
class Record:
    """All that a run measured.

    Attributes:
        task: encode, re_rank or fit.
        about: what the values depend on, by name.
        left_out: the libraries that were not measured, and why.
        loads: by model.
        limits: of one thread, measured in each round, by model.
        lines: in the order of the table.
        points: the curve over the length of texts.
        on_gpu: whether a GPU computed.
    """

    task: str
    about: dict[str, str]
    left_out: list[str] = field(default_factory=list)
    loads: dict[str, Load] = field(default_factory=dict)
    limits: dict[str, list[Limits]] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    on_gpu: bool = False

    @property
    def unit(self) -> str:
        """Of the main rate."""
        return f"{UNITS[self.task]} per {'second' if self.on_gpu else 'CPU second'}"

    def limit_share(self, line: Line) -> float | None:
        """The share of a thread's or a GPU's rate of matrix products that a line reaches; None for other precisions."""
        limits = self.limits[line.model]
        rates = {"float32": [one.fp32 for one in limits], "bfloat16": [one.bf16 for one in limits]}
        if line.precision not in rates:
            return None
        load, rate = self.loads[line.model], 1e9 * statistics.median(rates[line.precision])
        passes = 3 if self.task == "fit" else 1  # the backward pass multiplies twice as often
        return passes * load.operations * load.tokens / line.seconds / rate

    def table(self) -> str:
        """The Markdown table, and what it depends on."""
        headings = [self.unit, "time, irexp's = 1" if self.on_gpu else "CPU time, irexp's = 1", "of the limit"]
        if not self.on_gpu:
            headings += [f"{UNITS[self.task]} per second, all cores", "time, irexp's = 1"]
        headings += ["peak MiB", "difference"]
        rows = [f"| model | | {' | '.join(headings)} |", f"| --- | --- |{' ---: |' * len(headings)}"]
        for line in self.lines:
            own = next(other for other in self.lines if (other.model, other.name) == (line.model, OWN))
            items, share = self.loads[line.model].items, self.limit_share(line)
            cells = [line.model, line.name]
            times = [(line.cpu_seconds, own.cpu_seconds), (line.wall_seconds, own.wall_seconds)]
            for seconds, base in times[self.on_gpu :]:
                ratio = statistics.median(one / other for one, other in zip(seconds, base, strict=True))
                cells += [f"{items / statistics.median(seconds):,.1f}", f"{ratio:.2f}"]
            cells.insert(4, "" if share is None else f"{share:.0%}")
            rows.append(f"| {' | '.join([*cells, f'{line.mib:,}', f'{line.difference:.0e}'])} |")
        return "\n".join([self._heading(), "", *rows])

    def _heading(self) -> str:
        versions = {line.name: line.versions for line in self.lines if ", " not in line.name}
        every = [limits for some in self.limits.values() for limits in some]
        rates = [statistics.median(values) for values in zip(*map(astuple, every), strict=True)]
        whose = "the GPU" if self.on_gpu else "one thread"
        parts = [
            *(f"{name} {value}" for name, value in self.about.items()),
            f"{whose}: {rates[0]:,.0f} GF/s in fp32, {rates[1]:,.0f} in bfloat16, {rates[2]:,.1f} GB/s read",
            *(f"{name}: {', '.join(f'{key} {value}' for key, value in of.items())}" for name, of in versions.items()),
            *(f"not measured: {reason}" for reason in self.left_out),
        ]
        return "; ".join(parts) + "."


def about(experiment: Experiment) -> dict[str, str]:
    """What figures depend on, besides the libraries."""
    gpu = {}
    if device_of(experiment.values["machine"]["accelerator"]).type == "cuda":
        gpu = {"GPU": torch.cuda.get_device_name()}
    return {
        **gpu,
        "processor": f"{processor()}, {usable_processors()} cores",
        "backbone": str(experiment.options.get("backbone", "")),
        "collection": str(experiment.values["dataset"]["name"]),
    }


def write_section(path: Path, name: str, text: str) -> None:
    """Replace a generated part of a file, between two comments; a file that has none gets one at its end."""
    begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
    before, _, rest = (path.read_text(encoding="utf8") if path.is_file() else "").partition(begin)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2] or chr(10)}", encoding="utf8")
