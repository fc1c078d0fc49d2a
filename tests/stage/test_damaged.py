"""Artifacts that are not what they were: they are named before a stage opens them, and never in the way."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from irexp import component
from irexp.artifact.manifest import MANIFEST, DamagedArtifactError
from irexp.stage.clean import clean
from irexp.stage.report import report
from irexp.stage.verify import verify
from irexp.types import UserError
from tests.chains import name_of, planned, run, settings

Compose = Callable[..., DictConfig]


@pytest.fixture
def artifacts(tmp_path: Path, collection: Path, compose: Compose) -> Path:
    """The artifacts of a chain."""
    run(compose, settings(tmp_path, collection))
    return tmp_path / "artifacts"


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("way", ["own", "identifier", "path"])
def test_a_large_file_is_read_before_a_stage_opens_it(
    tmp_path: Path, artifacts: Path, collection: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """However the checkpoint is named, its weights are compared with their checksum, and nothing is made of them."""
    monkeypatch.setattr("irexp.artifact.store.GLANCE", 0)
    name = name_of(planned(compose, settings(tmp_path, collection)), "checkpoint")
    _flip(artifacts / name / "model.safetensors")
    given = {"own": "own", "identifier": name, "path": f"{artifacts}/{name}"}[way]
    more = settings(tmp_path, collection, "encoding.dtype=float16", f"artifact.checkpoint={given}")
    before = sorted(artifacts.glob("*/[!.]*"))
    with pytest.raises(DamagedArtifactError, match=r"model\.safetensors has changed"):
        run(compose, more, ["encode", "index", "search", "evaluate"])
    assert sorted(artifacts.glob("*/[!.]*")) == before


def test_an_identifier_without_a_manifest_is_refused(
    tmp_path: Path, artifacts: Path, collection: Path, compose: Compose
) -> None:
    """Its weights cannot be compared with anything, and what is made of them would pass for the genuine artifact."""
    name = name_of(planned(compose, settings(tmp_path, collection)), "checkpoint")
    (artifacts / name / MANIFEST).unlink()
    more = settings(tmp_path, collection, "encoding.dtype=float16", f"artifact.checkpoint={name}")
    with pytest.raises(DamagedArtifactError, match=f"{name}/{MANIFEST} cannot be read"):
        run(compose, more, ["encode", "index", "search", "evaluate"])


@pytest.mark.parametrize("model", ["模型", "été", "."])
def test_a_name_in_any_script_is_made_and_found_again(
    tmp_path: Path, collection: Path, compose: Compose, model: str
) -> None:
    """A folder's name holds only the characters that every file system has; an artifact is found by its digest."""
    named = settings(tmp_path, collection, f'model.name="{model}"')
    made = run(compose, named)
    assert {outcome.status for outcome in made.values()} == {"made"}
    assert {outcome.status for outcome in run(compose, named).values()} == {"already done"}
    given = f"artifact.checkpoint={name_of(planned(compose, named), 'checkpoint')}"
    again = run(compose, [*named, given], ["encode", "index", "search", "evaluate"])
    assert {outcome.path for outcome in again.values()} <= {outcome.path for outcome in made.values()}


def test_a_table_of_all_measures_leaves_out_damaged_ones(
    tmp_path: Path, artifacts: Path, collection: Path, compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged manifest or file is named in the log, and the table holds the rest."""
    for seed, file in ((1, MANIFEST), (2, "measures.json")):
        made = run(compose, settings(tmp_path, collection, f"seed={seed}", "search.depth=5"))
        _flip(Path(str(made["evaluate"].path)) / file)
    evaluation = compose().evaluation
    table = report(tmp_path, None, artifacts=str(artifacts), evaluation=evaluation)
    assert len(table.rows) == 1
    assert "measures.json has changed" in caplog.text and f"{MANIFEST} cannot be read" in caplog.text


def test_verify_names_a_folder_without_a_manifest(tmp_path: Path, artifacts: Path) -> None:
    """An interrupted copy or removal is not an artifact, and takes space."""
    (folder,) = artifacts.glob("index/[!.]*")
    (folder / MANIFEST).unlink()
    with pytest.raises(UserError, match=f"{folder} has no {MANIFEST}"):
        verify(tmp_path, artifacts=str(artifacts), machine=component("machine", progress=False))


def test_clean_removes_nothing_if_a_manifest_or_a_table_is_damaged(tmp_path: Path, artifacts: Path) -> None:
    """What that artifact is made from would look as if nothing needed it."""
    (folder,) = artifacts.glob("measures/[!.]*")
    (folder / MANIFEST).write_text("{")
    with pytest.raises(UserError, match=f"{folder / MANIFEST} cannot be read"):
        clean(tmp_path, artifacts=str(artifacts), tables=[], confirm=True)
    (folder / MANIFEST).unlink()
    (tmp_path / "written").mkdir()
    (tmp_path / "written" / "table_of_another_program.json").write_text('{"columns": []}')
    (tmp_path / "written" / "table.json").write_text('[{"row": "sb')
    with pytest.raises(UserError, match=r"written/table\.json is damaged"):
        clean(tmp_path, artifacts=str(artifacts), tables=[str(tmp_path / "written")], confirm=True)
    (tmp_path / "outputs").mkdir()  # as Hydra does for the job itself
    with pytest.raises(UserError, match=r"finds no table in .*outptus, .*outputs; name those that hold them"):
        clean(
            tmp_path, artifacts=str(artifacts), tables=[str(tmp_path / n) for n in ("outptus", "outputs")], confirm=True
        )
    assert len(list(artifacts.glob("*/[!.]*"))) == 5
