"""The record of `benchmark.py`: engines.json, and the tables of it in README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irexp.artifact.provenance import processor
from irexp.peer.limits import Limits
from irexp.peer.lines import write_section

FOLDER = Path(__file__).resolve().parent
_FILE = "engines.json"


def line(engine: str, cost: tuple[float, float], times: list[float], shares: list[float | None], found: Any) -> Any:
    """A line of a table: an engine with what it costs and finds.

    Args:
        engine: its name, with what differs from its default settings.
        cost: seconds of building, and bytes for each document.
        times: milliseconds for each query, one by one and all at once.
        shares: of these times that the arithmetic or the reading needs at least; None where that is not known.
        found: recall and nDCG of the top 10.
    """
    return {
        "engine": engine,
        "build_seconds": cost[0],
        "bytes": cost[1],
        "ms": times,
        "of_limit": shares,
        "recall": found[0],
        "nDCG@10": found[1],
    }


def table(kind: str, lines: list[dict[str, Any]]) -> str:
    """The lines as Markdown."""
    if kind == "rerank":
        rows = "\n".join(f"| {one['engine']} | {one['ms'][0]:.1f} |" for one in lines)
        return f"| | ms |\n| --- | ---: |\n{rows}"
    has_limits = any(share is not None for one in lines for share in one["of_limit"])
    head = ["engine", "build s", "bytes a document"]
    for when in ("one by one", "64 at once"):
        head += [f"ms, {when}", *(["of the limit"] if has_limits else [])]
    head += ["recall@10", "nDCG@10"]
    found = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for one in lines:
        cells = [one["engine"], f"{one['build_seconds']:.1f}", f"{one['bytes']:,.0f}"]
        for took, share in zip(one["ms"], one["of_limit"], strict=True):
            cells += [f"{took:.3f}", *(["" if share is None else f"{share:.0%}"] if has_limits else [])]
        cells += [f"{one['recall']:.3f}", f"{one['nDCG@10']:.4f}"]
        found.append(f"| {' | '.join(cells)} |")
    return "\n".join(found)


def machine(limits: Limits) -> dict[str, Any]:
    """What the figures of a run depend on, besides irexp."""
    return {"processor": processor(), "fp32": limits.fp32, "bf16": limits.bf16, "read": limits.read}


def keep(kind: str, size: int, on: Mapping[str, Any], lines: list[dict[str, Any]], folder: Path = FOLDER) -> None:
    """Replace a table in the record, and write all tables of its kind into README.md.

    Args:
        kind: such as dense.
        size: documents of the collection, or candidates to re-rank.
        on: what `machine` returned.
        lines: what `line` returned for each engine.
        folder: of both files.
    """
    path = folder / _FILE
    kept = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    kept.setdefault(kind, {})[str(size)] = {"machine": dict(on), "lines": lines}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf8")
    write_section(folder / "README.md", kind, shown(kind, kept[kind]))


def shown(kind: str, sizes: Mapping[str, Any]) -> str:
    """The tables of a kind, the smallest collection first."""
    found = []
    for size in sorted(sizes, key=int):
        on = sizes[size]["machine"]
        rates = _rates(on)
        what = "candidates" if kind == "rerank" else "documents"
        found.append(f"{int(size):,} {what} ({on['processor']}; {rates}):\n\n{table(kind, sizes[size]['lines'])}")
    return "\n\n".join(found)


def _rates(on: Mapping[str, Any]) -> str:
    half = "" if on["bf16"] is None else f", {on['bf16']:.0f} in bfloat16"
    return f"one thread does {on['fp32']:.0f} GF/s in fp32{half}, {on['read']:.1f} GB/s read"
