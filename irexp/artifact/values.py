"""Questions about a composed experiment as plain values: what it trains, and how it makes its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

#: A composed experiment as plain values.
Values = Mapping[str, Any]

#: How an experiment makes its run.
Way = Literal["searched", "re-ranked", "fused"]

#: The value of `artifact.<kind>` where the experiment makes the artifact itself.
OWN = "own"


def select(values: Values, path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    found: Any = values
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def way_of(values: Values) -> Way:
    """How an experiment makes its run; no other code decides it."""
    if select(values, "fuse.runs") is not None:
        return "fused"
    return "re-ranked" if select(values, "re_rank.candidates") is not None else "searched"


def ships_candidates(values: Values) -> bool:
    """Whether the re-ranked documents are part of a collection: `re_rank.candidates` is a component."""
    return isinstance(select(values, "re_rank.candidates"), Mapping)


def names_candidates(values: Values) -> bool:
    """Whether the re-ranked documents are a run, of another experiment or given."""
    return not ships_candidates(values)


def is_given(values: Values, kind: str) -> bool:
    """Whether an artifact is given: `artifact.<kind>` is an identifier, a path or a hub name."""
    value = select(values, f"artifact.{kind}")
    return value is not None and str(value) != OWN


def is_trained(values: Values) -> bool:
    """Whether fine-tuning changes the weights; with training=none it does not."""
    return bool(select(values, "training.steps") != 0)


def draws_negatives(values: Values) -> bool:
    """Whether training needs a run for its negatives; without training examples the fault is that there are none."""
    return is_trained(values) and select(values, "dataset.train") is not None


def is_tuned(values: Values) -> bool:
    """Whether the weights of a fusion are tuned on the development queries."""
    return select(values, "fuse.method") == "wsum" and select(values, "fuse.weights") is None


#: The keys with which negatives are chosen by stage=mine before training.
MINING = ("scores", "min_score", "max_score", "absolute_margin", "relative_margin", "keep")


def runs_of(entry: Any) -> list[Any]:
    """The runs that a setting for several names; one experiment's overrides, or one file, may stand alone.

    >>> runs_of(["model=bm25"]), runs_of([["model=bm25"], "their.run"])
    ([['model=bm25']], [['model=bm25'], 'their.run'])
    """
    if isinstance(entry, list) and any(isinstance(one, list) for one in entry):
        return entry
    return [] if entry is None else [entry]


def mines(values: Values) -> bool:
    """Whether negatives are chosen by stage=mine: with filters, or from several runs."""
    candidates = select(values, "negatives.candidates")
    is_chosen = any(select(values, f"negatives.{key}") is not None for key in MINING)
    return draws_negatives(values) and candidates is not None and (is_chosen or len(runs_of(candidates)) > 1)


def draws_from_run(values: Values) -> bool:
    """Whether training draws its negatives from a run itself."""
    return draws_negatives(values) and not mines(values)


def is_taught(values: Values) -> bool:
    """Whether a teacher's scores are the targets of training."""
    return draws_negatives(values) and select(values, "teacher.scores") is not None
