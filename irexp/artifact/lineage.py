"""The artifacts of a store as a graph of what is made from what, and how two of them differ."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from irexp.artifact.content import exists
from irexp.artifact.identity import Identity, digest_in
from irexp.artifact.spec import Other, Own
from irexp.artifact.stages import KINDS, STAGES
from irexp.artifact.store import Store
from irexp.types import UserError

#: The kind of artifact of each stage input, by the input's name.
KIND_OF_INPUT = {
    name: source.kind
    for stage in STAGES.values()
    if stage.makes is not None
    for name, source in stage.inputs.items()
    if isinstance(source, Own | Other)
}


#: SHA-256, of which a person compares the first digits.
_DIGEST = re.compile("[0-9a-f]{64}")


class Lineage:
    """The complete artifacts of a store, and what each is made from."""

    def __init__(self, store: Store) -> None:
        """Read every manifest once."""
        self.store = store
        self.folders: dict[str, Path] = {}
        self.manifests: dict[str, dict[str, Any]] = {}
        for kind in KINDS:
            for folder, manifest in store.manifests(kind):
                self.folders[f"{kind}/{folder.name}"] = folder
                self.manifests[f"{kind}/{folder.name}"] = manifest

    def inputs(self, name: str) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """The inputs of an artifact: each one's name, its artifact if it is in the store, and its manifest entry."""
        for key, entries in self.manifests[name]["made_from"].items():
            if key.startswith("artifact."):
                source = key.removeprefix("artifact.")
                for entry in entries if isinstance(entries, list) else [entries]:
                    yield source, self._by_digest.get((KIND_OF_INPUT[source], str(entry.get("digest")))), entry

    @cached_property
    def _by_digest(self) -> dict[tuple[str, str], str]:
        return {(name.partition("/")[0], name[-8:]): name for name in self.manifests}

    @cached_property
    def users(self) -> dict[str, list[str]]:
        """The artifacts that are made from each artifact."""
        users: dict[str, list[str]] = {name: [] for name in self.manifests}
        for name in self.manifests:
            for _, before, _ in self.inputs(name):
                if before is not None and name not in users[before]:
                    users[before].append(name)
        return users

    def with_ancestors(self, names: Iterator[str] | set[str]) -> set[str]:
        """The named artifacts and everything that they are made from."""
        found: set[str] = set()
        waiting = [name for name in names if name in self.manifests]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [before for _, before, _ in self.inputs(name) if before is not None]
        return found

    def all_settings(self, name: str) -> dict[str, Any]:
        """The settings of an artifact and of everything that it is made from, as {dotted path: value}."""
        return flatten(self._nested(name))

    def _nested(self, name: str) -> dict[str, Any]:
        manifest = self.manifests[name]
        nested: dict[str, Any] = dict(manifest["lineage"])
        several: dict[str, list[Any]] = {}
        for source, before, entry in self.inputs(name):
            several.setdefault(f"artifact.{source}", []).append(self._nested(before) if before else entry)
        for key, found in several.items():
            known = manifest["lineage"].get(key)
            nested[key] = known if not any(self._is_here(name, key)) else found if isinstance(known, list) else found[0]
        return nested

    def _is_here(self, name: str, key: str) -> Iterator[bool]:
        yield from (before is not None for source, before, _ in self.inputs(name) if f"artifact.{source}" == key)

    def documents(self, name: str) -> list[Any]:
        """The documents that a run, or the run of measures, ranks, as in identities: several if it fuses such runs.

        Empty for a run that irexp did not make.
        """
        return documents_of(self._nested(name))

    def find(self, text: str) -> str:
        """The artifact that an identifier, a path or a digest names.

        Raises:
            UserError: if there is none, or more than one.
        """
        wanted = text.rstrip("/").removeprefix(f"{self.store.root}/")
        found = [name for name in self.manifests if name == wanted or name.endswith(f"-{wanted}")]
        if not found and (digest := digest_in(wanted)):  # under the name of another collection with the same documents
            kind = wanted.partition("/")[0]
            found = [name for name in self.manifests if name.startswith(f"{kind}/") and name.endswith(f"-{digest}")]
        if not found and exists(path := Path(text)):
            found = [name for name, folder in self.folders.items() if folder.resolve() == path.resolve()]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{text} names {len(found)} artifacts: {', '.join(found)}; give one of them in full")
        near = difflib.get_close_matches(wanted, self.manifests, n=3, cutoff=0.3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise UserError(f"there is no artifact {text} in {self.store.root.resolve()}{hint} (stage=status lists all)")


def documents_of(nested: Mapping[str, Any]) -> list[Any]:
    """The documents in a nested lineage, not those that a checkpoint was trained with."""
    if "dataset.documents" in nested:
        return [nested["dataset.documents"]]
    found: list[Any] = []
    for source in ("run", "index", "fused"):
        inputs = nested.get(f"artifact.{source}", [])
        for before in inputs if isinstance(inputs, list) else [inputs]:
            found += [documents for documents in documents_of(before) if documents not in found]
    return found


#: Inputs of the same experiment, whose settings are typed without a prefix.
_SAME_EXPERIMENT = {"artifact.checkpoint", "artifact.encoding", "artifact.index", "artifact.run"}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """A nested lineage as {dotted path: value}; the levels of the same experiment's artifacts are omitted."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = {str(number): item for number, item in enumerate(value)}
    if not isinstance(value, dict):
        return {path: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        is_level = key in _SAME_EXPERIMENT and isinstance(inner, dict)
        flat |= flatten(inner, path if is_level else f"{path}.{key.removeprefix('artifact.')}".lstrip("."))
    return flat


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """The values in which two flat lineages differ, one line each."""
    return [
        f"{key}: {_short(found.get(key, 'unset'))} there, {_short(wanted.get(key, 'unset'))} here"
        for key in sorted(wanted.keys() | found.keys())
        if wanted.get(key) != found.get(key)
    ]


def nearest(identity: Identity, manifests: Iterable[tuple[Path, dict[str, Any]]]) -> tuple[str, list[str]] | None:
    """The artifact of the same collection with the fewest differing values, and these; None if there is none.

    Args:
        identity: the missing artifact's.
        manifests: the artifacts of its kind, each with its manifest.
    """
    wanted = flatten(identity.lineage)
    collection = _collection(identity.name)
    found = []
    for folder, manifest in manifests:
        if _collection(folder.name) == collection:
            differing = differences(wanted, flatten(manifest["lineage"]))
            found.append((len(differing), folder.name, differing))
    if not found:
        return None
    _, name, differing = min(found)
    return f"{identity.kind}/{name}", differing


def _short(value: Any) -> Any:
    """A value as a message shows it: of a digest the first digits."""
    return f"{value[:8]}…" if isinstance(value, str) and _DIGEST.fullmatch(value) else value


def _collection(name: str) -> str:
    return name.partition(".")[2].rpartition("-")[0]
