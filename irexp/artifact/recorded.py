"""What is recorded of a step's experiment beside the artifact that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irexp.artifact.identity import digest_in
from irexp.artifact.plan import Step
from irexp.artifact.store import Store
from irexp.artifact.values import is_given


def recorded_given(step: Step) -> list[str]:
    """The kinds of the artifacts that were given, rather than made by the experiment."""
    return [kind for kind in step.experiment.recorded["artifact"] if is_given(step.experiment.values, kind)]


def recorded_configuration(step: Step, store: Store) -> dict[str, Any]:
    """The experiment's configuration as it is recorded, with the names of the artifacts that it uses.

    An artifact that another experiment made, for a collection of another name with the same documents, has that name.
    """
    left_out = ("stage", "force", "dry_run", "confirm", "objective")  # they say what to run, or repeat other settings
    configuration = {key: value for key, value in step.experiment.recorded.items() if key not in left_out}
    return {**configuration, "artifact": {**configuration["artifact"], **_names_in(store, step.names)}}


def _names_in(store: Store, names: Mapping[str, str | list[str]]) -> dict[str, str | list[str]]:
    """The names that artifacts have in a store, where they are found by their digests."""

    def found(name: str) -> str:
        kind, _, rest = name.partition("/")
        if (digest := digest_in(name)) is None or (store.root / name).exists():
            return name
        return next((f"{kind}/{folder.name}" for folder in store.all(kind, f"*-{digest}")), name) if rest else name

    return {
        key: found(name) if isinstance(name, str) else [found(each) for each in name] for key, name in names.items()
    }
