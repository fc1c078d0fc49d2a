"""The stage that measures how the stages' seconds and memory grow with documents, queries and processes.

Each stage runs in a process of its own over random texts, with exact search. It writes growth.json, a table to
README.md, and growth.svg, in which what grows in proportion is a straight line of slope one.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from irexp.artifact.experiment import Experiment
from irexp.config.built import built
from irexp.model.bi_encoder import BiEncoder
from irexp.model.load import save
from irexp.model.start import start_new
from irexp.peer.figure import Panel, plot_curves
from irexp.peer.growth_work import SHARED, STAGES, write_inputs
from irexp.peer.lines import about, write_section
from irexp.peer.workers import worker
from irexp.progress import counted
from irexp.types import UserError

log = logging.getLogger(__name__)

#: The stages that read no queries.
WITHOUT_QUERIES = ("encode", "index")


@dataclass(frozen=True)
class Cost:
    """What a stage cost.

    Attributes:
        stage: its name.
        documents: of the collection.
        queries: that are searched, re-ranked and evaluated.
        processes: that share the work, one thread each.
        seconds: wall-clock time.
        mib: peak memory beyond what was opened before; None for several processes.
    """

    stage: str
    documents: int
    queries: int
    processes: int
    seconds: float
    mib: int | None

    @property
    def units(self) -> int:
        """The work: documents to encode or index, queries to re-rank or evaluate, pairs of both in a search."""
        documents = 1 if self.stage in ("re_rank", "evaluate") else self.documents
        return documents * (1 if self.stage in WITHOUT_QUERIES else self.queries)


def growth(
    output: Path,
    experiment: Experiment,
    *,
    documents: Sequence[int],
    queries: Sequence[int],
    processes: Sequence[int],
    folder: str | None,
) -> list[Cost]:
    """Measure encode, index, search, re_rank and evaluate.

    Args:
        output: the job's folder.
        experiment: decides the model, a bi-encoder.
        documents: the sizes of the collection, each with the fewest queries.
        queries: the numbers of queries, each over the fewest documents.
        processes: that encode; the other stages are measured in one.
        folder: where JSON, table and curve are written; None for the job's folder.

    Raises:
        UserError: if a list is empty, or the model is not a bi-encoder.
    """
    for name, numbers in (("documents", documents), ("queries", queries), ("processes", processes)):
        if not numbers or min(numbers) < 1:
            raise UserError(f"stage.growth.{name}={list(numbers)} must list numbers of at least 1, such as [1, 2]")
    sizes = [*((number, min(queries)) for number in documents), *((min(documents), number) for number in queries)]
    place, costs, heading = Path(folder) if folder is not None else output, [], about(experiment)
    del heading["collection"]  # its texts are random
    shown = experiment.values["machine"]["progress"]
    for documents_now, queries_now in counted(list(dict.fromkeys(sizes)), desc="growth", unit=" sizes", shown=shown):
        with tempfile.TemporaryDirectory() as inputs:
            _write(Path(inputs) / "data", experiment, documents_now, queries_now)
            for stage in STAGES:
                for number in sorted(processes, reverse=True) if stage in SHARED else [1]:
                    settings = {**experiment.values["machine"], "devices": number, "threads": 1, "progress": False}
                    request = {"task": "grow", "stage": stage, "folder": f"{inputs}/data", "machine": settings}
                    with worker("irexp") as started:
                        found = started.ask(request)
                        heading |= started.versions
                    mib = found["more_mib"] if number == 1 else None
                    costs.append(Cost(stage, documents_now, queries_now, number, found["wall_seconds"], mib))
        _record(place, costs, heading)
    log.info("growth: %s\n\n%s\n", place / "growth.json", table(costs))
    return costs


def _write(folder: Path, experiment: Experiment, documents: int, queries: int) -> None:
    """The model, and random texts of words that it knows."""
    with torch.random.fork_rng():
        torch.manual_seed(experiment.values["seed"])
        model = start_new(built(experiment.config.model)).eval()
    if not isinstance(model, BiEncoder):
        raise UserError(f"stage=growth needs a bi-encoder, and {model.name} is a cross-encoder; choose model=sbert")
    _, tokenizer = next(iter(model.encoders().values()))
    words = sorted(word for word in tokenizer.get_vocab() if word.isalpha() and word.isascii() and word.islower())
    write_inputs(folder, words, documents=documents, queries=queries)
    save(model, folder / "model")


def table(costs: Sequence[Cost]) -> str:
    """The Markdown table; its last column is 1 where the seconds are in proportion to the work."""
    rows = [
        "| stage | processes | documents | queries | seconds | MiB | seconds per unit of work, smallest = 1 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for stage in STAGES:
        for cost in sorted((cost for cost in costs if cost.stage == stage), key=lambda cost: cost.processes):
            first = next(one for one in costs if (one.stage, one.processes) == (stage, cost.processes))
            grown = cost.seconds / first.seconds * first.units / cost.units
            mib = "" if cost.mib is None else f"{cost.mib:,}"
            cells = [f"{cost.documents:,}", f"{cost.queries:,}", f"{cost.seconds:.2f}", mib, f"{grown:.2f}"]
            rows.append(f"| {' | '.join([stage, str(cost.processes), *cells])} |")
    return "\n".join(rows)


def _record(folder: Path, costs: Sequence[Cost], heading: dict[str, str]) -> None:
    """Write what is measured so far."""
    folder.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = {"about": heading, "costs": [asdict(cost) for cost in costs]}
    (folder / "growth.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf8")
    shown = "; ".join(f"{name} {value}" for name, value in heading.items())
    written = f"{shown}.\n\n{table(costs)}\n\n![seconds by documents and queries](growth.svg)"
    write_section(folder / "README.md", "growth", written)
    panels = []
    for axis, other in (("documents", "queries"), ("queries", "documents")):
        fewest = min(getattr(cost, other) for cost in costs)
        curves: dict[str, list[tuple[float, float]]] = {}
        for cost in sorted(costs, key=lambda cost: getattr(cost, axis)):
            if getattr(cost, other) == fewest and (axis == "documents" or cost.stage not in WITHOUT_QUERIES):
                processes = f"{cost.processes} process{'es' * (cost.processes > 1)}"
                label = f"{cost.stage}, {processes}" if cost.stage in SHARED else cost.stage
                curves.setdefault(label, []).append((getattr(cost, axis), cost.seconds))
        panels.append(Panel(axis, "seconds", curves, is_log=True))
    plot_curves(panels, folder / "growth.svg")
