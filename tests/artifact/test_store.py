"""The store: artifacts are complete or absent and never stale, and the nearest one to a missing one is found."""

import json
import logging
import multiprocessing
import shutil
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from irexp.artifact.content import digest_of
from irexp.artifact.identity import Identity, identify_given
from irexp.artifact.lineage import differences, flatten, nearest
from irexp.artifact.manifest import MANIFEST, damage, read_manifest
from irexp.artifact.store import Store
from irexp.artifact.wiring import Elsewhere
from irexp.types import UserError


def _identity(**made_from: Any) -> Identity:
    return Identity("index", f"index/m.toy-{digest_of(made_from)}", made_from, made_from)


def _given(value: str) -> Elsewhere:
    return Elsewhere("index", value, "artifact.index", value)


def _make(store: Store, identity: Identity, content: str = "x") -> None:
    with store.making(identity, resumes=False) as making:
        (making.folder / "file").write_text(content)
        making.provenance = {"seconds": 1}


def test_an_artifact_exists_only_after_its_block_has_ended(tmp_path: Path) -> None:
    """Inside the block, and after an error in it, nothing may use the unfinished artifact."""
    store, identity = Store(tmp_path), _identity(a=1)
    with pytest.raises(RuntimeError), store.making(identity, resumes=False) as making:
        (making.folder / "file").write_text("half")
        assert not store.has(identity)
        raise RuntimeError
    assert not store.has(identity)
    _make(store, identity)
    assert store.has(identity)
    assert read_manifest(store.open(identity))["provenance"] == {"seconds": 1}


@pytest.mark.parametrize(("resumes", "left"), [(True, True), (False, False)])
def test_only_a_stage_that_resumes_gets_what_a_failed_attempt_left(tmp_path: Path, resumes: bool, left: bool) -> None:
    """A stage that cannot resume would otherwise mix old files with new ones."""
    store, identity = Store(tmp_path), _identity(a=1)
    with pytest.raises(RuntimeError), store.making(identity, resumes=resumes) as making:
        (making.folder / "file").write_text("half")
        raise RuntimeError
    with store.making(identity, resumes=resumes) as making:
        assert (making.folder / "file").exists() == left


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    """Damage is an error that names the file, not a wrong result."""
    store, identity = Store(tmp_path), _identity(a=1)
    _make(store, identity, "long content")
    (store.open(identity) / "file").write_text("short")
    with pytest.raises(UserError, match=r"file has 5 bytes.*12 bytes"):
        store.has(identity)
    (store.open(identity) / "file").unlink()
    with pytest.raises(UserError, match="is missing"):
        store.has(identity)


def test_a_changed_byte_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is compared with its checksum when it is about to be opened, a small one also when it is listed."""
    store, identity = Store(tmp_path), _identity(a=1)
    _make(store, identity, "long content")
    folder = store.open(identity)
    assert store.has(identity) and damage(folder, read_manifest(folder)) == []
    (folder / "file").write_text("long c0ntent")
    with pytest.raises(UserError, match="file has changed since it was written"):
        store.has(identity)
    monkeypatch.setattr("irexp.artifact.store.GLANCE", 3)
    assert store.has(identity)
    assert store.look(identity, is_opened=True).state == "damaged"
    assert len(damage(folder, read_manifest(folder))) == 1


@pytest.mark.parametrize("edit", [{"provenance": {"measures": {"nDCG@10": 1.0}}}, {"files": {}}, {"lineage": {"a": 2}}])
def test_an_edited_manifest_is_named(tmp_path: Path, edit: dict[str, Any]) -> None:
    """Measures are reported from the manifest, so an edited one must not be taken for what was measured."""
    store, identity = Store(tmp_path), _identity(a=1)
    _make(store, identity)
    path = store.open(identity) / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **edit}))
    with pytest.raises(UserError, match=rf"{path} cannot be read \(its content has changed"):
        store.has(identity)


def test_a_manifest_without_a_checksum_is_accepted(tmp_path: Path) -> None:
    """Artifacts that were made before manifests had a checksum stay what they are."""
    store, identity = Store(tmp_path), _identity(a=1)
    _make(store, identity)
    path = store.open(identity) / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["checksum"]
    path.write_text(json.dumps(manifest, indent=1))
    assert store.look(identity, is_opened=True).state == "complete"


def test_an_added_file_is_named_unless_it_is_hidden(tmp_path: Path) -> None:
    """A stage that opens all files of a folder would use the added one; none opens a hidden one."""
    store, identity = Store(tmp_path), _identity(a=1)
    _make(store, identity)
    (store.open(identity) / ".DS_Store").write_text("x")
    assert store.has(identity)
    (store.open(identity) / "shard-1").write_text("x")
    with pytest.raises(UserError, match="shard-1 was added since"):
        store.has(identity)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"made_from": {}, "lineage": {}, "files": {"f": 1}, "provenance": {}}']
)
def test_a_damaged_manifest_is_named_and_stops_no_other_artifact(tmp_path: Path, text: str) -> None:
    """The error names the file and what to do; lists leave the artifact out."""
    store, damaged, intact = Store(tmp_path), _identity(a=1), _identity(a=2)
    _make(store, damaged)
    _make(store, intact)
    path = store.open(damaged) / MANIFEST
    path.write_text(text)
    with pytest.raises(UserError, match=rf"{path} cannot be read .* remove {path.parent}"):
        store.has(damaged)
    with pytest.raises(UserError, match=f"{path} cannot be read"):
        identify_given(_given(str(path.parent)), tmp_path)
    assert [folder for folder, _ in store.manifests("index")] == [store.open(intact)]


def test_an_identifier_is_refused_if_its_folder_is_not_what_it_says(tmp_path: Path) -> None:
    """What is made from it would be stored as made from the genuine artifact."""
    store, identity = Store(tmp_path), _identity(a=1)
    _make(store, identity)
    given = identify_given(_given(identity.name), tmp_path)
    assert store.look(given).state == "given"
    other = tmp_path / f"index/m.toy-{digest_of({'a': 2})}"
    shutil.copytree(store.open(identity), other)
    found = store.look(identify_given(_given(f"index/{other.name}"), tmp_path))
    assert found.state == "damaged" and "was not made from what its name says" in str(found.fault)
    (store.open(identity) / MANIFEST).unlink()
    assert str(tmp_path / identity.name / MANIFEST) in str(store.look(given).fault)


def test_a_folder_without_a_manifest_is_replaced(tmp_path: Path) -> None:
    """An interrupted copy or removal is in nobody's way, nor is what an interrupted replacement left."""
    store, identity = Store(tmp_path), _identity(a=1)
    for left in (identity.name, identity.name.replace("index/", "index/.replaced-")):
        (tmp_path / left).mkdir(parents=True)
        (tmp_path / left / "half").write_text("x")
    _make(store, identity)
    assert [path.name for path in store.open(identity).iterdir() if path.name != MANIFEST] == ["file"]
    assert sorted(path.name for path in (tmp_path / "index").iterdir() if path.is_dir()) == [identity.name[6:]]


def test_an_artifact_that_was_complete_but_not_moved_is_not_made_again(tmp_path: Path) -> None:
    """A process that dies while it waits for the disk loses no work; working files are removed."""
    store, identity = Store(tmp_path), _identity(a=1)
    _make(store, identity)
    partial = tmp_path / identity.name.replace("index/", "index/.partial-")
    store.open(identity).rename(partial)
    (partial / ".working").mkdir()
    with store.making(identity, resumes=False) as making:
        assert making.found is not None
    assert store.has(identity) and not (store.open(identity) / ".working").exists() and not partial.exists()


def test_an_artifact_that_is_a_link_is_replaced_and_removed(tmp_path: Path) -> None:
    """As of one that was moved to another disk: replacing it leaves that copy; a link that leads nowhere is none."""
    store, identity, other = Store(tmp_path / "store"), _identity(a=1), tmp_path / "other"
    _make(store, identity)
    folder = store.open(identity)
    folder.rename(other)
    folder.symlink_to(other)
    with store.making(identity, resumes=False, again=True) as making:
        (making.folder / "file").write_text("y")
    assert (folder / "file").read_text() == "y" and not folder.is_symlink() and (other / "file").read_text() == "x"
    store.remove(folder)
    folder.symlink_to(other)
    store.remove(folder)
    assert not other.exists() and not folder.is_symlink()
    folder.symlink_to(other)
    _make(store, identity)
    assert store.has(identity) and not folder.is_symlink()


def test_a_damaged_artifact_can_be_replaced(tmp_path: Path) -> None:
    """The old manifest is only compared with the new one; that it cannot be read must not lose the new artifact."""
    store, identity = Store(tmp_path), _identity(a=1)
    _make(store, identity)
    (store.open(identity) / MANIFEST).write_text("{")
    with store.making(identity, resumes=False, again=True) as making:
        (making.folder / "file").write_text("y")
    assert making.changed == [MANIFEST] and store.has(identity)


def test_an_artifact_is_made_after_a_kill_while_its_manifest_was_written(tmp_path: Path) -> None:
    """A folder that was not renamed is not an artifact, whether its manifest is cut off or complete."""
    store, identity = Store(tmp_path), _identity(a=1)
    partial = tmp_path / identity.name.replace("index/", "index/.partial-")
    for left in ('{"made_from": {', '{"made_from": {"a": 1}, "files": {}}'):
        partial.mkdir(parents=True, exist_ok=True)
        (partial / MANIFEST).write_text(left)
        assert not store.has(identity)
    with store.making(identity, resumes=True) as making:
        (making.folder / "file").write_text("x")
    assert store.has(identity)
    assert list(read_manifest(store.open(identity))["files"]) == ["file"]


def test_two_artifacts_with_the_same_digest_are_an_error(tmp_path: Path) -> None:
    """The ingredients are compared in full; by the digest alone a wrong artifact would be used."""
    store, identity = Store(tmp_path), _identity(a=1)
    _make(store, identity)
    twin = Identity("index", identity.name, {"a": 2}, {"a": 2})
    with pytest.raises(UserError, match="was not made from what its name says"):
        store.has(twin)


def test_an_artifact_is_found_under_another_model_name(tmp_path: Path) -> None:
    """Renaming a model must not make its artifacts again: only the digest counts."""
    store, identity = Store(tmp_path), _identity(a=1)
    _make(store, identity)
    renamed = Identity("index", f"index/other.name-{digest_of({'a': 1})}", {"a": 1}, {"a": 1})
    assert store.has(renamed)


def test_the_nearest_artifact_differs_in_the_fewest_values(tmp_path: Path) -> None:
    """An error about a missing artifact shows the one difference that matters, with both values."""
    store = Store(tmp_path)
    for rate, seed in ((1, 1), (2, 1), (3, 9)):
        _make(store, _identity(training={"learning_rate": rate}, seed=seed))
    found = nearest(_identity(training={"learning_rate": 3}, seed=8), store.manifests("index"))
    assert found is not None
    assert found[1] == ["seed: 9 there, 8 here"]


def test_lineages_flatten_to_the_paths_that_people_type() -> None:
    """Differences name the settings as they are typed, without the levels of the artifacts."""
    lineage = {"artifact.run": {"artifact.index": {"index": {"probes": 2}}, "search": {"depth": 5}}, "seed": 1}
    assert flatten(lineage) == {"index.probes": 2, "search.depth": 5, "seed": 1}
    assert differences({"a": 1, "b": 2}, {"a": 1}) == ["b: unset there, 2 here"]


class _WhenItWaits(logging.Handler):
    """Sets an event when the store logs that it waits for another process."""

    def __init__(self, event: Event) -> None:
        """`event` is set when the store waits."""
        super().__init__(logging.INFO)
        self._event = event

    def emit(self, record: logging.LogRecord) -> None:
        """Set the event."""
        assert "waiting for it" in record.getMessage()
        self._event.set()


def _make_while_another_waits(root: str, has_begun: Event, other_waits: Event, log: Any) -> None:
    try:
        with Store(Path(root)).making(_identity(a=1), resumes=True) as making:
            assert making.found is None
            has_begun.set()
            other_waits.wait()
            log.put("made")
            (making.folder / "file").write_text("x")
    finally:
        has_begun.set()


def _ask_while_another_makes(root: str, other_has_begun: Event, waits: Event, log: Any) -> None:
    logger = logging.getLogger("irexp.artifact.disk")
    logger.setLevel(logging.INFO)
    logger.addHandler(_WhenItWaits(waits))
    try:
        other_has_begun.wait()
        with Store(Path(root)).making(_identity(a=1), resumes=True) as making:
            log.put("found" if making.found is not None else "made again")
    finally:
        waits.set()  # also if the store does not wait, so that the test fails instead of hanging


def test_two_processes_make_an_artifact_once(tmp_path: Path) -> None:
    """The second process asks while the first is at work, waits, and then finds the artifact complete."""
    context = multiprocessing.get_context("fork")
    has_begun, waits, log = context.Event(), context.Event(), context.SimpleQueue()
    arguments = (str(tmp_path), has_begun, waits, log)
    targets = (_make_while_another_waits, _ask_while_another_makes)
    processes = [context.Process(target=target, args=arguments) for target in targets]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [log.get(), log.get()] == ["made", "found"]
