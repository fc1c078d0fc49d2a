"""How an artifact was made: the code with its changes, settings of determinism, energy; and ir_metadata of a run."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from irexp.artifact.energy import measured_resources
from irexp.artifact.git import LARGEST_PATCH, PATCH, git_state
from irexp.artifact.ir_metadata import END, START, SUFFIX, ir_metadata
from irexp.artifact.manifest import damage, read_manifest
from irexp.artifact.provenance import determinism, provenance
from irexp.artifact.recorded import recorded_configuration, recorded_given
from irexp.artifact.store import Store
from irexp.evaluation.run_file import read_run
from tests.chains import Compose, planned, run, settings, write_collection
from tests.irds import registered


def git(folder: Path, *arguments: str) -> None:
    """Run git with an author."""
    author = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", str(folder), *author, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one committed file of code."""
    folder = tmp_path / "checkout"
    (folder / "irexp").mkdir(parents=True)
    (folder / "irexp" / "a.py").write_text("a = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "a")
    return folder


def test_the_patch_of_a_job_restores_its_code(checkout: Path, tmp_path: Path) -> None:
    """Applied to the commit, it gives the changed and the new files; texts beside the code are not in it."""
    (checkout / "irexp" / "a.py").write_text("a = 2\n")
    (checkout / "irexp" / "new.py").write_text("b = 1\n")
    (checkout / "hydra_plugins").mkdir()
    (checkout / "hydra_plugins" / "launcher.py").write_text("c = 1\n")
    (checkout / "notes.txt").write_text("a note")
    state = git_state(checkout / "irexp")
    assert state is not None
    state.save(tmp_path)
    recorded = state.recorded()
    assert recorded["dirty"] is True
    assert recorded["patch"] == hashlib.sha256((tmp_path / PATCH).read_bytes()).hexdigest()
    git(checkout, "clone", "-q", ".", str(tmp_path / "other"))
    git(tmp_path / "other", "apply", str(tmp_path / PATCH))
    assert (tmp_path / "other" / "irexp" / "a.py").read_text() == "a = 2\n"
    assert (tmp_path / "other" / "irexp" / "new.py").read_text() == "b = 1\n"
    assert (tmp_path / "other" / "hydra_plugins" / "launcher.py").is_file()
    assert b"note" not in (tmp_path / PATCH).read_bytes()


def test_unchanged_code_has_no_patch(checkout: Path, tmp_path: Path) -> None:
    """Only the commit is recorded."""
    state = git_state(checkout / "irexp")
    assert state is not None
    state.save(tmp_path)
    assert not (tmp_path / PATCH).exists()
    assert state.recorded() == {"commit": state.commit, "dirty": False} and len(state.commit) == 40


def test_two_patches_in_one_folder_are_both_kept(checkout: Path, tmp_path: Path) -> None:
    """As of a sweep whose code changed while it ran; the same patch again is not kept twice."""
    digests = set()
    for text in ("a = 2\n", "a = 3\n", "a = 3\n"):
        (checkout / "irexp" / "a.py").write_text(text)
        state = git_state(checkout)
        assert state is not None
        state.save(tmp_path)
        digests.add(state.recorded()["patch"])
    found = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in found} == digests and len(found) == 2
    assert PATCH in [path.name for path in found]


def test_of_a_large_patch_only_the_summary_is_kept(checkout: Path, tmp_path: Path) -> None:
    """The file says which files changed."""
    (checkout / "irexp" / "large.py").write_text("x = 1\n" * LARGEST_PATCH)
    state = git_state(checkout / "irexp")
    assert state is not None
    state.save(tmp_path)
    assert (tmp_path / PATCH).stat().st_size < 1000 and "irexp/large.py (new)" in (tmp_path / PATCH).read_text()


def test_code_outside_of_git_has_no_state(tmp_path: Path) -> None:
    """As of an installed wheel."""
    assert git_state(tmp_path) is None


def test_settings_of_determinism_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of torch and of the environment, as they are now."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    found = determinism()
    assert found["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8" and found["cudnn_deterministic"] is True
    assert found["threads"] == torch.get_num_threads()


@pytest.mark.skipif(importlib.util.find_spec("tirex_tracker") is None, reason="needs the extra tracker")
def test_the_load_of_a_stage_is_measured() -> None:
    """Half a second of work takes processor time; what the machine does not tell is absent."""
    with measured_resources() as found:
        sum(i * i for i in range(5_000_000))
    assert float(found["time_elapsed_user_ms"]) > 50
    assert found["ram_used_process_kb"]["max"] > 1000
    assert None not in found.values()


def test_nothing_is_measured_without_the_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the manifest has no such entry."""
    monkeypatch.setitem(sys.modules, "tirex_tracker", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with measured_resources() as found:
        pass
    assert found == {}


def test_a_run_has_ir_metadata_beside_it(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """It repeats the manifest and is not part of the artifact; in front of the run it changes nothing that is read."""
    overrides = settings(tmp_path, collection, "model=bm25")
    folder = Path(str(run(compose, overrides, ["index", "search"])["search"].path))
    path, sidecar = folder / "test.run", folder / f"test.run{SUFFIX}"
    found: dict[str, Any] = yaml.safe_load(sidecar.read_text())
    provenance = read_manifest(folder)["provenance"]
    assert found["tag"] == path.read_text().splitlines()[0].split("\t")[-1]
    assert found["data"]["test collection"]["name"] == provenance["configuration"]["dataset"]["name"]
    assert found["implementation"]["source"]["commit"] == provenance["git"]["commit"]
    assert found["method"]["retrieval"][0]["method"] == "bm25"
    assert {"platform", "resources", "research goal"} <= found.keys()
    assert read_manifest(folder)["files"].keys() == {"test.run"}
    sidecar.write_text("changed")
    assert damage(folder, read_manifest(folder)) == []
    lines = [START, *(f"# {line}" for line in yaml.safe_dump(found).splitlines()), END]
    annotated = tmp_path / "annotated.run"
    annotated.write_text("\n".join(lines) + "\n" + path.read_text())
    assert list(read_run(annotated)) == list(read_run(path)) != []


FUSED = 'fuse.runs=[["model=bm25"],["model=sbert","training=none"]]'


@pytest.mark.parametrize(
    ("typed", "retrieval", "training"),
    [
        (["model=bm25"], {"method": "bm25", "index": "BM25Index"}, None),
        (["model=sbert"], {"checkpoint": "checkpoint/sbert.", "index": "Faiss"}, "toys"),
        (["model=sbert", "training=none"], {"checkpoint": "checkpoint/sbert."}, None),
        (["model=sbert", "artifact.checkpoint={theirs}"], {"checkpoint": "theirs"}, None),
        (
            ["model=mono", "re_rank=scoreddocs", "re_rank.candidates.dataset_id=irexp-toy"],
            {"reranks": "scoreddocs of irexp-toy"},
            "toys",
        ),
        (["model=mono", "re_rank=bm25", "artifact.checkpoint={theirs}"], {"reranks": "model=bm25"}, None),
        (
            ["model=fusion", FUSED],
            {"interpolates": ["model=bm25", "model=sbert training=none"]},
            None,
        ),
    ],
)
def test_ir_metadata_names_the_checkpoint_and_only_training_of_this_experiment(
    compose: Compose, tmp_path: Path, typed: list[str], retrieval: dict[str, Any], training: str | None
) -> None:
    """BM25 and a fusion have no checkpoint, and what a given one was trained on is not known."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.json").write_text("{}")
    lines = "q1\td1\t1\n"
    data = write_collection(tmp_path / "toys", {"q1": "list trees"}, {"test": lines, "train": lines})
    overrides = ["dataset=local", f"dataset.path={data}", "dataset.dev=null", "training.validate_every=null"]
    overrides += [f"paths.artifacts={tmp_path}"]
    overrides += [one.format(theirs=tmp_path / "theirs") for one in typed]
    with registered(tmp_path, "d1\ttext\n", scoreddocs="q1 Q0 d1 1 1 x\n"):
        plan = planned(compose, overrides, ["search", "re_rank", "fuse"])
    (step,) = plan.own
    configuration = recorded_configuration(step, Store(tmp_path))
    recorded = provenance(
        overrides=[], options={}, configuration=configuration, seconds=1, output=tmp_path, resources={}
    )
    found = ir_metadata({"given": recorded_given(step), **recorded}, tag="irexp", name=step.name)
    (method,) = found["method"]["retrieval"]
    for key, value in retrieval.items():
        assert method[key][: len(value)] == value
    assert ("checkpoint" in method) == (typed[0] in ("model=sbert", "model=mono"))
    assert found["data"].get("training data") == (None if training is None else [{"name": training}])
