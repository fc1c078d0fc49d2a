"""The stages that inspect artifacts (status, why, show, clean), and forced stages."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from irexp.artifact.lineage import Lineage
from irexp.artifact.manifest import MANIFEST, read_manifest
from irexp.artifact.store import Store
from irexp.config.installation import CONF
from irexp.stage.clean import clean
from irexp.stage.execute import execute
from irexp.stage.explain import tree
from irexp.stage.show import config_flags, content_overrides, recorded_command, show
from irexp.stage.status import status
from irexp.stage.why import why
from irexp.types import UserError
from tests.chains import STAGES, Compose, planned, run, settings


@pytest.fixture
def root(tmp_path: Path) -> str:
    """The folder of artifacts."""
    return str(tmp_path / "artifacts")


def test_status_lists_every_artifact_and_its_users(
    compose: Compose, tmp_path: Path, collection: Path, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One row per artifact, with what is made from it; an unfinished one is listed as such, and removed if asked."""
    caplog.set_level("INFO")
    with pytest.raises(UserError, match="nothing was made yet"):
        status(tmp_path, artifacts=root)
    made = run(compose, settings(tmp_path, collection))
    run(compose, settings(tmp_path, collection, "search.depth=3"))
    (Path(root) / "index" / ".partial-sbert.toys-12345678").mkdir()
    rows = {row[0]: row for row in status(tmp_path, artifacts=root)}
    assert len(rows) == 8
    index = f"index/{Path(str(made['index'].path)).name}"
    runs = {name for name in rows if name.startswith("run/")}
    assert set(rows[index][3].split(", ")) == runs and len(runs) == 2
    assert rows["index/sbert.toys-12345678"][3] == "(unfinished)"
    assert "7 artifacts, " in caplog.text and ", and 1 unfinished" in caplog.text
    partial = Path(root) / "index" / ".partial-sbert.toys-12345678"
    caplog.clear()
    clean(tmp_path, artifacts=root, tables=[], confirm=False)
    assert "index/sbert.toys-12345678 (unfinished)" not in caplog.text and "1 unfinished artifacts, 0 B" in caplog.text
    clean(tmp_path, artifacts=root, tables=[], confirm=False, unfinished=True)
    assert "index/sbert.toys-12345678 (unfinished)" in caplog.text and partial.is_dir()
    clean(tmp_path, artifacts=root, tables=[], confirm=True, unfinished=True)
    assert not partial.exists()
    size, unit = rows[index][1].split()
    assert float(size) > 0 and unit == "kB"


def test_why_lists_every_setting_in_which_two_lineages_differ(
    compose: Compose, tmp_path: Path, collection: Path, root: str
) -> None:
    """For two measures: settings of the encoding, three artifacts earlier, and of the search, and no others."""
    first = run(compose, settings(tmp_path, collection))
    second = run(compose, settings(tmp_path, collection, "encoding=half", "search.depth=3"))
    digests = [str(outcomes["evaluate"].path)[-8:] for outcomes in (first, second)]
    found = why(tmp_path, artifacts=root, of=digests)
    assert found == [
        "encoding.dtype: float32 / float16",
        "encoding.precision: float32 / bfloat16",
        "search.depth: 100 / 3",
    ]
    assert why(tmp_path, artifacts=root, of=[digests[0], digests[0]]) == []
    with pytest.raises(UserError, match="of different kinds"):
        why(tmp_path, artifacts=root, of=[digests[0], str(first["index"].path)])
    with pytest.raises(UserError, match="there is no artifact 00000000"):
        why(tmp_path, artifacts=root, of=[digests[0], "00000000"])


def test_a_command_that_makes_an_artifact_again_names_no_tracker() -> None:
    """Nor the sweep or the stages; whoever types it would write into another's project."""
    typed = ["model=bm25", "logger=mlflow", "logger.tracking_uri=http://us", "hydra.sweep.dir=a", "stage=all", "seed=1"]
    assert content_overrides({"provenance": {"overrides": typed}}) == ["model=bm25", "seed=1"]


@pytest.mark.parametrize(
    ("typed", "stages"),
    [
        (["search.depth=3", "objective=[nDCG@10]"], "[fit,encode,index,search,evaluate]"),
        (["model=bm25", "index.k1=0.9"], "[index,search,evaluate]"),
        (["model=sbert", "re_rank=bm25"], "[fit,re_rank,evaluate]"),
        (["model=fusion", 'fuse.runs=[["model=bm25"],["model=sbert","training=none"]]'], "[fuse,evaluate]"),
    ],
)
@pytest.mark.slow
def test_the_command_of_show_makes_the_same_artifact(
    compose: Compose, tmp_path: Path, collection: Path, root: str, typed: list[str], stages: str
) -> None:
    """The shown command plans an artifact of the same name, for the measures and everything before them."""
    overrides = settings(tmp_path, collection, *typed)
    names = ["fit", "encode", "index", "search", "re_rank", "fuse", "evaluate"]
    measured = run(compose, overrides, names)["evaluate"]
    lineage = Lineage(Store(Path(root)))
    wanted = f"measures/{Path(str(measured.path)).name}"
    for name in lineage.with_ancestors({wanted}):
        command = shlex.split(show(tmp_path, artifacts=root, of=name))
        assert command[:2] == ["python", "run.py"]
        assert name != wanted or command[-1] == f"stage={stages}"
        again = planned(compose, command[2:-1], command[-1].removeprefix("stage=[").rstrip("]").split(","))
        assert again.own[-1].name == name


def test_clean_keeps_what_a_recipe_needs_that_was_run(
    compose: Compose, tmp_path: Path, collection: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No table names its measures yet; a recipe that no command names is not planned."""
    shutil.copytree(CONF, tmp_path / "conf")
    for module in ("tests.conftest", "irexp.artifact.experiment", "irexp.stage.clean"):
        monkeypatch.setattr(f"{module}.CONF", tmp_path / "conf")
    made = {}
    for name, depth, command in (("tried", 9, ["run.py", "experiment=tried"]), ("other", 7, ["run.py"])):
        (tmp_path / "conf" / "experiment" / f"{name}.yaml").write_text(
            "# @package _global_\n"
            "defaults: [override /model: bm25, override /training: none, override /dataset: local]\n"
            f"dataset: {{path: {collection}}}\nsearch: {{depth: {depth}}}\n"
        )
        monkeypatch.setattr("sys.argv", command)
        typed = [f"experiment={name}", f"paths.artifacts={root}", "machine.progress=false"]
        made[name] = run(compose, typed, ["index", "search", "evaluate"])
    needless = clean(tmp_path, artifacts=root, tables=[], confirm=False)
    names = [
        f"{kind}/{Path(str(made['other'][stage].path)).name}"
        for stage, kind in (("search", "run"), ("evaluate", "measures"))
    ]
    assert sorted(needless) == sorted(names)


@pytest.mark.slow
def test_clean_removes_only_unused_artifacts(compose: Compose, tmp_path: Path, collection: Path, root: str) -> None:
    """Of two experiments one is in a table; confirm=true removes what only the other one uses."""
    kept = run(compose, settings(tmp_path, collection))
    gone = run(compose, settings(tmp_path, collection, "encoding=half"))
    (tmp_path / "outputs").mkdir()
    row = {"row": "sbert", "artifacts": [f"measures/{Path(str(kept['evaluate'].path)).name}"]}
    (tmp_path / "outputs" / "table.json").write_text(json.dumps([row]))
    tables = [str(tmp_path / "outputs")]
    wanted = {f"{path.parent.name}/{path.name}" for path in (Path(str(gone[s].path)) for s in STAGES if s != "fit")}
    assert set(clean(tmp_path, artifacts=root, tables=tables, confirm=False)) == wanted
    assert all(Path(str(gone[stage].path)).is_dir() for stage in STAGES)
    store = Store(Path(root))
    identity = planned(compose, settings(tmp_path, collection, "seed=5")).own[0].artifact
    with (
        store.making(identity, resumes=True),  # type: ignore[arg-type]
        pytest.raises(UserError, match="another process is making checkpoint/sbert"),
    ):
        clean(tmp_path, artifacts=root, tables=tables, confirm=True)
    assert set(clean(tmp_path, artifacts=root, tables=tables, confirm=True)) == wanted | {identity.name}  # type: ignore[union-attr]
    assert not any(Path(str(gone[stage].path)).exists() for stage in STAGES if stage != "fit")
    assert {o.status for o in run(compose, settings(tmp_path, collection)).values()} == {"already done"}


def test_clean_keeps_the_speed_of_a_needed_run(compose: Compose, tmp_path: Path, collection: Path, root: str) -> None:
    """A table's file names no artifact of speed, but table.speed.md shows it; that of an unused run is removed."""
    names = ["index", "search", "evaluate", "speed"]
    base = settings(tmp_path, collection, "model=bm25")
    kept, gone = (run(compose, [*base, *typed], names) for typed in ([], ["search.depth=3"]))
    row = {"row": "bm25", "artifacts": [f"measures/{Path(str(kept['evaluate'].path)).name}"]}
    (tmp_path / "table.json").write_text(json.dumps([row]))
    needless = clean(tmp_path, artifacts=root, tables=[str(tmp_path)], confirm=False)
    wanted = [Path(str(gone[stage].path)) for stage in names[1:]]
    assert sorted(needless) == sorted(f"{path.parent.name}/{path.name}" for path in wanted)


def test_a_forced_stage_replaces_its_artifact_and_compares_it(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says whether the content is the same or which files differ; a failing stage leaves the old artifact."""
    caplog.set_level("INFO")
    base = settings(tmp_path, collection)
    first = run(compose, base)
    again = run(compose, [*base, "force=[search]"])
    assert {stage: outcome.status for stage, outcome in again.items()} == {
        stage: "made" if stage == "search" else "already done" for stage in STAGES
    }
    assert "has the same content as before" in caplog.text
    folder = Path(str(first["search"].path))
    manifest = read_manifest(folder)
    (folder / "test.run").write_text("d0 Q0 d1 1 0.5 irexp\n")
    manifest["files"]["test.run"] |= {"bytes": 21, "sha256": "0"}
    del manifest["checksum"]  # as manifests were before they had one
    (folder / MANIFEST).write_text(json.dumps(manifest))
    run(compose, [*base, "force=[search]"], ["search"])
    assert "has different content than before, in test.run" in caplog.text
    before = (folder / "test.run").read_bytes()
    with pytest.raises(UserError, match="has no queries"):
        (collection / "queries.jsonl").rename(tmp_path / "queries.jsonl")
        (collection / "queries.jsonl").write_text("")
        run(compose, [*base, "force=[search]"], ["search"])
    assert (folder / "test.run").read_bytes() == before
    (collection / "queries.jsonl").unlink()
    (tmp_path / "queries.jsonl").rename(collection / "queries.jsonl")
    assert run(compose, base, ["search"])["search"].status == "already done"


def test_an_interrupted_replacement_loses_nothing(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """A process that died between the two renames left the old artifact aside; the next job puts it back."""
    base = settings(tmp_path, collection)
    folder = Path(str(run(compose, base)["search"].path))
    folder.rename(folder.with_name(f".replaced-{folder.name}"))
    assert run(compose, base)["search"].status == "already done"


def test_a_folder_without_a_manifest_is_replaced(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """An artifact that an interrupted copy or removal left incomplete is made again."""
    base = settings(tmp_path, collection)
    folder = Path(str(run(compose, base)["search"].path))
    (folder / MANIFEST).unlink()
    assert run(compose, base)["search"].status == "made"
    assert run(compose, base)["search"].status == "already done"


def test_the_tree_shows_the_state_of_every_artifact(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Existing, missing, damaged and given artifacts are marked, with an estimate for the missing ones."""
    base = settings(tmp_path, collection)
    made = run(compose, base)
    Path(str(made["index"].path)).rename(Path(str(made["index"].path)).with_name(".partial-gone"))
    (Path(str(made["search"].path)) / "test.run").write_text("changed")
    plan = planned(compose, [*base, "evaluation.measures=[AP]"], ["index", "evaluate"])
    store = Store(plan.experiment.root)
    text = tree(plan, store, {step: store.look(step.artifact).state for step in plan.steps})
    assert re.search(r"measures/\S+ +to make  stage=evaluate  (this experiment  )?about \d+ s", text)
    assert re.search(r"run/\S+ +damaged, not made by this command  stage=search", text)
    assert re.search(r"index/\S+ +to make  stage=index", text)
    assert re.search(r"checkpoint/\S+ +complete  stage=fit", text) and "see above" in text
    given = planned(compose, [*base, f"artifact.checkpoint={made['fit'].path}"], ["encode"])
    assert " given" in tree(given, store, {step: store.look(step.artifact).state for step in given.steps})


def test_an_experiment_that_is_its_own_baseline_is_one_row(
    compose: Compose, tmp_path: Path, collection: Path, root: str
) -> None:
    """`model=bm25` with the baseline `model=bm25` has one run, which the table shows once."""
    overrides = settings(
        tmp_path, collection, "model=bm25", 'baselines=[["model=bm25"]]', "stage=[index,search,evaluate,report]"
    )
    plan = planned(compose, overrides, ["index", "search", "evaluate", "report"])
    results = {step.name: result for step, _, result in execute(plan, Store(Path(root)), tmp_path)}
    assert [row.label for row in results["report"].rows] == ["bm25"]


def test_the_command_of_an_artifact_has_its_folder_of_options(
    compose: Compose, tmp_path: Path, collection: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed in either form; the values of its files are recorded, too, and other programs' arguments are not flags."""
    (tmp_path / "mine" / "search").mkdir(parents=True)
    (tmp_path / "mine" / "search" / "few.yaml").write_text("defaults: [default]\ndepth: 3\n")
    here = f"hydra.searchpath=[file://{tmp_path}/mine]"
    for flags, expected in (
        (["--config-dir", "mine"], ["--config-dir=mine"]),
        (["-cd", "mine", "-m", "--config-name=config"], ["--config-dir=mine", "--config-name=config"]),
        ([], []),
    ):
        monkeypatch.setattr("sys.argv", ["run.py", *flags, "model=bm25", "search=few"])
        overrides = settings(tmp_path, collection, here, "model=bm25", "search=few", f"search.depth={3 + len(flags)}")
        made = run(compose, overrides, ["index", "search"])["search"]
        manifest = read_manifest(Path(str(made.path)))
        name = f"run/{Path(str(made.path)).name}"
        command = shlex.split(recorded_command(Lineage(Store(Path(root))), name))
        assert command[2 : 2 + len(expected)] == expected and command[2 + len(expected)] == here
        assert manifest["provenance"]["configuration"]["search"]["depth"] == 3 + len(flags)
    assert config_flags({"provenance": {"command": ["ipykernel_launcher.py", "-cd", "kernel.json"]}}) == []
