"""The store: a folder of artifacts, each complete or absent, with a manifest of what made it.

An artifact is written to `.partial-…`, where a later process resumes what a killed one left, and renamed once its
manifest is written and all is on the disk. Hidden files in it are working files, removed before it is renamed. A lock
per artifact lets one process make it while others wait and then find it complete. An artifact that is being replaced is
kept as `.replaced-…` until the new one is in place.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from irexp.artifact.disk import hold_lock, is_locked, remove_folder, sync, sync_entries
from irexp.artifact.identity import Given, Identity
from irexp.artifact.manifest import GLANCE, MANIFEST, DamagedArtifactError, check, read_manifest, write_manifest
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Seconds between two looks at another node's progress, and seconds that it may take to begin.
_POLL = 0.5
_PATIENCE = 600.0


#: The state of an artifact: complete, begun by a process that died, changed since it was made, given, or absent; or
#: "to do" for a stage that makes none.
State = Literal["complete", "partial", "damaged", "given", "absent", "to do"]


@dataclass(frozen=True)
class Found:
    """What the store knows of an artifact.

    Attributes:
        state: its state.
        place: its path, or the name of a hub model.
        measures: what its stage measured.
        fault: what is damaged, if anything.
    """

    state: State
    place: Path | str | None = None
    measures: dict[str, float] = field(default_factory=dict)
    fault: str | None = None


class MissingArtifactError(UserError):
    """An artifact that a stage needs does not exist."""


@dataclass
class Making:
    """An artifact that is being made.

    Attributes:
        folder: the folder to fill.
        provenance: the provenance that the manifest will record.
        found: the artifact that another process made while this one waited; then there is nothing to fill.
        changed: the files that differ from the artifact that this one replaces; None if it replaces none.
    """

    folder: Path
    found: Found | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    changed: list[str] | None = None


class Store:
    """The artifacts below one root folder."""

    def __init__(self, root: Path) -> None:
        """A store; the folder is created when it is first written to."""
        self.root = root

    def folder(self, identity: Identity) -> Path:
        """The folder of the artifact once it is complete."""
        return self.root / identity.name

    def has(self, identity: Identity) -> bool:
        """Whether the artifact exists, made from exactly these ingredients.

        Raises:
            DamagedArtifactError: if a file of it was changed, truncated or removed, or another artifact has its digest.
        """
        found = self.look(identity)
        if found.fault is not None:
            raise DamagedArtifactError(found.fault)
        return found.state == "complete"

    def look(self, artifact: Identity | Given | None, *, is_opened: bool = False) -> Found:
        """The state and place of an artifact; None stands for a stage that makes no artifact.

        Args:
            artifact: what to look for.
            is_opened: whether a stage is about to open it, so that files of any size are compared by checksum.
        """
        if artifact is None:
            return Found("to do")
        made_from, digest = None, None
        if isinstance(artifact, Given):
            place = artifact.path or (artifact.value if "hub" in artifact.entry else None)
            digest = artifact.entry.get("digest")
            folder = artifact.path if artifact.path and digest is not None else None
            state: State = "absent" if place is None else "given"
        else:
            place = folder = self._find(artifact)
            made_from = artifact.made_from
            is_begun = folder is None and self._partial(artifact).exists()
            state = "complete" if folder is not None else "partial" if is_begun else "absent"
        if folder is None:
            return Found(state, place)
        try:
            manifest = read_manifest(folder)
            check(folder, manifest, made_from=made_from, digest=digest, up_to=math.inf if is_opened else GLANCE)
        except DamagedArtifactError as error:
            return Found("damaged", place, fault=str(error))
        return Found(state, place, manifest["provenance"].get("measures") or {})

    def open(self, identity: Identity) -> Path:
        """The folder of an artifact that `has` found."""
        folder = self._find(identity)
        assert folder is not None, identity.name
        return folder

    def _find(self, identity: Identity) -> Path | None:
        """The artifact's folder, found by the digest alone."""
        kind, _, name = identity.name.partition("/")
        found = next(iter(self.all(kind, f"*-{name[-8:]}")), None)
        if found is None:  # a process died between the two steps of replacing it
            for kept in (self.root / kind).glob(f".replaced-*-{name[-8:]}"):
                final = kept.with_name(kept.name.removeprefix(".replaced-"))
                if (kept / MANIFEST).is_file() and not final.exists():
                    os.replace(kept, found := final)
        return found

    @contextmanager
    def making(self, identity: Identity, *, resumes: bool, again: bool = False) -> Iterator[Making]:
        """Fill an artifact's folder; it appears under its name when the block ends without an error.

        Args:
            identity: the artifact to make.
            resumes: whether to hand over what a killed process left, rather than an empty folder.
            again: whether to make it even if it exists, and replace it.

        Yields:
            The folder to fill, unless another process made the artifact while this one waited.

        Raises:
            UserError: if nothing can be written below the root.
        """
        partial = self._partial(identity)
        with hold_lock(self._writable_lock(identity), identity.name):
            old = self._find(identity)
            if old is None and not again and _is_complete(partial, identity):  # a process died before moving it
                self._put(partial, self.folder(identity), None)
            if not again and self.has(identity):
                yield Making(partial, self.look(identity))
                return
            if partial.exists() and (again or not resumes):
                shutil.rmtree(partial)
            partial.mkdir(exist_ok=True)
            (partial / MANIFEST).unlink(missing_ok=True)
            making = Making(partial)
            yield making
            write_manifest(partial, identity, making.provenance)
            if old is not None:
                making.changed = changed_files(old, partial)
            self._put(partial, self.folder(identity), old)

    def _put(self, partial: Path, final: Path, old: Path | None) -> None:
        """Move a complete folder to its final name, and only then remove what it replaces.

        What has the final name without being an artifact, such as an interrupted copy, is replaced, too.
        """
        for hidden in partial.glob(".*"):  # what only a process that resumes needs
            shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()
        sync(partial)
        in_the_way = {path: _aside(path) for path in {old, final} if path is not None and os.path.lexists(path)}
        for path, aside in in_the_way.items():
            remove_folder(aside)  # of an earlier replacement, whose process died before it removed this
            os.replace(path, aside)
        os.replace(partial, final)
        sync_entries(final.parent)
        for aside in {*in_the_way.values(), _aside(final)}:
            remove_folder(aside)

    @contextmanager
    def sharing(self, identity: Identity) -> Iterator[Making]:
        """Fill a part of an artifact's folder beside other processes; `making` waits for all, and completes it.

        Args:
            identity: the artifact, whose stage resumes what a killed process left.

        Yields:
            The folder, unless the artifact is complete.

        Raises:
            UserError: if nothing can be written below the root.
        """
        partial = self._partial(identity)
        with hold_lock(self._writable_lock(identity), identity.name, is_shared=True):
            is_complete = self.has(identity)
            if not is_complete:
                partial.mkdir(exist_ok=True)
            yield Making(partial, self.look(identity) if is_complete else None)

    @contextmanager
    def helping(self, identity: Identity, *, shares: bool) -> Iterator[Making]:
        """Wait until another node begins an artifact, and at the end of the block until that is complete.

        Args:
            identity: the artifact.
            shares: whether this node works on it.

        Yields:
            The folder that the other node fills, unless it is complete or this node has nothing to do.

        Raises:
            MissingArtifactError: if no node begins it within ten minutes.
        """
        folder = self._started(identity) if shares else None
        making = Making(folder or self.folder(identity), None if folder else Found("absent"))
        yield making
        while self._started(identity) is not None:
            time.sleep(_POLL)
        making.found = self.look(identity)

    def _started(self, identity: Identity) -> Path | None:
        """Wait until another node begins an artifact: the folder that it fills, or None if it is complete."""
        partial = self._partial(identity)
        waited = 0.0
        while not self.has(identity):
            if partial.is_dir() and is_locked(self._lock(identity)):
                return partial
            if waited > _PATIENCE:
                raise MissingArtifactError(
                    f"the first node did not begin {identity.name} in {self.root.resolve()}; read its log, and check "
                    f"that all nodes see the same folder"
                )
            time.sleep(_POLL)
            waited += _POLL
        return None

    def locked(self) -> list[str]:
        """The artifacts that another process is making now."""
        locks = sorted(self.root.glob("*/.lock-*"))
        return [f"{path.parent.name}/{path.name.removeprefix('.lock-')}" for path in locks if is_locked(path)]

    def remove(self, folder: Path) -> None:
        """Remove an artifact, its manifest first: without that, what a dying process leaves is not an artifact.

        Of one that is a link to another folder, both are removed.
        """
        content = folder.resolve()
        (content / MANIFEST).unlink()
        shutil.rmtree(content)
        remove_folder(folder)
        folder.with_name(f".lock-{folder.name}").unlink(missing_ok=True)

    def _partial(self, identity: Identity) -> Path:
        final = self.folder(identity)
        return final.with_name(f".partial-{final.name}")

    def _writable_lock(self, identity: Identity) -> Path:
        """The lock's file, which exists; a UserError if it cannot be written."""
        lock = self._lock(identity)
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            lock.open("a").close()
        except OSError as error:
            raise UserError(
                f"paths.artifacts={self.root}: nothing can be written there ({error.strerror}); name another folder"
            ) from error
        return lock

    def _lock(self, identity: Identity) -> Path:
        final = self.folder(identity)
        return final.with_name(f".lock-{final.name}")

    def without_manifest(self, kind: str) -> list[Path]:
        """Folders of a kind that are not artifacts, since a copy or removal was interrupted."""
        paths = sorted((self.root / kind).glob("[!.]*"))
        return [path for path in paths if path.is_dir() and not (path / MANIFEST).is_file()]

    def all(self, kind: str, name: str = "*") -> list[Path]:
        """Every complete artifact of a kind, by name, or those whose names have a pattern.

        Raises:
            UserError: if the root cannot be read.
        """
        try:
            found = list((self.root / kind).glob(f"{name}/{MANIFEST}"))
        except OSError as error:
            raise UserError(
                f"paths.artifacts={self.root}: it cannot be read ({error.strerror}); name another folder"
            ) from error
        return sorted(path.parent for path in found if path.parent.name[0] != ".")

    def manifests(self, kind: str, *, is_opened: bool = False) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every complete artifact of a kind with its manifest; one that is damaged is logged and skipped.

        Args:
            kind: one of `KINDS`.
            is_opened: whether its files will be read, so that they are compared with their checksums.
        """
        for folder in self.all(kind):
            try:
                manifest = read_manifest(folder)
                if is_opened:
                    check(folder, manifest, made_from=None, digest=None, up_to=math.inf)
            except DamagedArtifactError as error:
                log.warning("left out: %s", error)
                continue
            yield folder, manifest


def changed_files(old: Path, new: Path) -> list[str]:
    """The files in which two artifacts differ, by their manifests; the manifest itself if the old one is damaged."""
    try:
        read_manifest(old)
    except DamagedArtifactError:
        return [MANIFEST]
    before, after = ({n: e["sha256"] for n, e in read_manifest(folder)["files"].items()} for folder in (old, new))
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _aside(folder: Path) -> Path:
    """Where an artifact is kept until another one is in its place."""
    return folder.with_name(f".replaced-{folder.name}")


def _is_complete(partial: Path, identity: Identity) -> bool:
    """Whether a folder that was not moved to its final name has everything: its manifest is written last."""
    if not (partial / MANIFEST).is_file():
        return False
    try:
        check(partial, read_manifest(partial), made_from=identity.made_from, digest=None, up_to=math.inf)
    except DamagedArtifactError as error:
        log.warning("what a killed process left of %s is not used: %s", identity.name, error)
        return False
    return True
