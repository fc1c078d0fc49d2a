"""The labels of table rows name the model or run, and the settings in which rows differ."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from irexp.artifact.experiment import composed
from irexp.artifact.lineage import Lineage
from irexp.artifact.plan import make_plan
from irexp.artifact.spec import Other, Own
from irexp.artifact.stages import STAGES
from irexp.artifact.store import Store
from irexp.stage.execute import execute
from irexp.stage.label import PARTS, labels
from tests.chains import Compose, run, settings

NAMES = ["fit", "encode", "index", "search", "re_rank", "fuse", "evaluate"]


@pytest.mark.slow
def test_labels_name_only_the_differing_settings(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Labels name an option where there is one, and do not depend on the order of the overrides."""
    compose()  # registers the schema
    rows = {
        "bm25 index.k1=1.2": ["model=bm25"],
        "bm25 index.k1=0.9": ["index.k1=0.9", "model=bm25"],
        "sbert index=faiss_flat seed=42 before fine-tuning": ["search.depth=7"],
        "sbert index=torch_dense before fine-tuning": ["search.depth=7", "index=torch_dense"],
        "sbert index=faiss_flat seed=1 before fine-tuning": ["search.depth=7", "seed=1"],
        "sbert over bm25 before fine-tuning": ["re_rank=bm25"],
        "rrf of bm25 + sbert before fine-tuning": [
            "model=fusion",
            'fuse.runs=[["model=bm25"],["model=sbert","training=none"]]',
        ],
    }
    names = []
    for typed in rows.values():
        plan = make_plan(composed([*settings(tmp_path, collection), *typed]), NAMES)
        *_, (_, measured, _) = execute(plan, Store(plan.experiment.root), tmp_path)
        names.append(f"measures/{Path(str(measured.path)).name}")
    assert labels(names, Lineage(Store(tmp_path / "artifacts"))) == list(rows)


def test_given_runs_and_checkpoints_are_labelled_by_their_path(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """A run file or checkpoint folder is labelled by its name, two of one name by their parent folders, too."""
    made = Path(str(run(compose, settings(tmp_path, collection))["fit"].path))
    (made / "manifest.json").unlink()
    names = []
    for place in ("one", "two"):
        target = tmp_path / place / "model"
        shutil.copytree(made, target)
        (target / "note.txt").write_text(place)  # different content makes another checkpoint
        typed = settings(tmp_path, collection, f"artifact.checkpoint={target}")
        names.append(f"measures/{Path(str(run(compose, typed)['evaluate'].path)).name}")
    for number, place in enumerate(("", "one", "two")):
        file = tmp_path / place / ("their.run" if place else "my.run")
        file.write_text(f"d0 Q0 d3 1 2.5 theirs\nd0 Q0 d{number} 2 1.5 theirs\n")
        typed = settings(tmp_path, collection, f"artifact.run={file}")
        names.append(f"measures/{Path(str(run(compose, typed, ['evaluate'])['evaluate'].path)).name}")
    given = [f"fuse.runs=[{tmp_path / 'one' / 'their.run'},{tmp_path / 'two' / 'their.run'}]", "model=fusion"]
    fused = run(compose, settings(tmp_path, collection, *given), ["fuse", "evaluate"])["evaluate"]
    names.append(f"measures/{Path(str(fused.path)).name}")
    assert labels(names, Lineage(Store(tmp_path / "artifacts"))) == [
        "one/model",
        "two/model",
        "my.run",
        "one/their.run",
        "two/their.run",
        "rrf of one/their.run + two/their.run",
    ]


def test_a_run_that_is_given_by_its_identifier_keeps_its_label(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """The model of the command that measures it has nothing to do with it."""
    made = run(compose, settings(tmp_path, collection, "model=bm25"), ["index", "search"])
    typed = settings(tmp_path, collection, f"artifact.run=run/{Path(str(made['search'].path)).name}", "model=sbert")
    measured = run(compose, typed, ["evaluate"])["evaluate"]
    assert labels([f"measures/{Path(str(measured.path)).name}"], Lineage(Store(tmp_path / "artifacts"))) == ["bm25"]


def test_rows_that_differ_in_the_dataset_are_told_apart_by_it(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Weights tuned on other development queries make another run, whose label says which."""
    names = []
    for number, line in enumerate(("d0\td0\t1\n", "d0\td3\t1\n")):
        (tmp_path / f"dev{number}.tsv").write_text("query-id\tcorpus-id\tscore\n" + line)
        (tmp_path / f"{number}.run").write_text(f"d0 Q0 d{3 * number} 1 2.5 theirs\n")
    given = f"[{tmp_path / '0.run'},{tmp_path / '1.run'}]"
    for number in range(2):
        fusion = ["model=fusion", f"fuse.runs={given}", f"fuse.dev_runs={given}", "fuse.method=wsum"]
        typed = settings(tmp_path, collection, *fusion, f"dataset.dev.qrels_path={tmp_path / f'dev{number}.tsv'}")
        names.append(f"measures/{Path(str(run(compose, typed, ['fuse', 'evaluate'])['evaluate'].path)).name}")
    assert labels(names, Lineage(Store(tmp_path / "artifacts"))) == [
        f"wsum of 0.run + 1.run dataset.dev.qrels_path=dev{number}.tsv" for number in range(2)
    ]


def test_a_label_can_name_every_setting_that_decides_a_result() -> None:
    """What enters the identity of a run, and its given inputs, are parts that a label may name."""
    stages = [stage for stage in STAGES.values() if stage.makes not in (None, "measures", "speed")]
    inputs = [source for stage in stages for source in stage.inputs.values()]
    paths = {setting.path for stage in stages for setting in stage.settings} - {"dataset.test"}
    paths |= {f"artifact.{source.kind}" for source in inputs if isinstance(source, Own)} | {"artifact.run"}
    paths |= {source.setting for source in inputs if isinstance(source, Other)}
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not any(f"{path}.".startswith(f"{part}.") for part in PARTS)] == []


def test_one_setting_that_distinguishes_all_rows_is_enough(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """A setting in which only some of the rows differ is left out if another one distinguishes all."""
    names = []
    for overrides in (["index.b=0.5"], ["index.b=0.6"], ["index.b=0.7", "index.k1=0.9"]):
        typed = settings(tmp_path, collection, "model=bm25", *overrides)
        names.append(f"measures/{Path(str(run(compose, typed)['evaluate'].path)).name}")
    found = labels(names, Lineage(Store(tmp_path / "artifacts")))
    assert found == ["bm25 index.b=0.5", "bm25 index.b=0.6", "bm25 index.b=0.7"]


def _labels(rows: list[dict[str, Any]], *, checkpoint: bool = True, swept: tuple[str, ...] = ()) -> list[str]:
    """The labels of rows that differ in some settings and the artifacts that are made with them."""

    def manifest(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        groups: dict[str, Any] = {"training": {"steps": 2}, "re_rank": {"candidates": None}, "model": {"name": "m"}}
        for path, value in row.items():
            group, _, key = path.partition(".")
            groups.setdefault(group, {})[key] = value
        made = f"checkpoint/m.d-{number:08}" if checkpoint else None
        groups["artifact"] = {"checkpoint": made, "index": f"index/m.d-{number:08}", **groups.get("artifact", {})}
        return {"provenance": {"configuration": groups, "options": {"training": f"option{number % 2}"}}}

    manifests = {str(number): manifest(number, row) for number, row in enumerate(rows)}
    return labels(list(manifests), cast(Lineage, SimpleNamespace(manifests=manifests)), swept=swept)


_GRID = [{"index.k1": k1, "index.b": b} for k1 in (0.5, 0.9) for b in (0.3, 0.4)]


def test_a_grid_is_labelled_by_each_setting_that_varies() -> None:
    """The digest of an artifact distinguishes all rows, too, and tells a reader nothing."""
    expected = [f"m index.k1={row['index.k1']} index.b={row['index.b']}" for row in _GRID]
    assert _labels(_GRID, checkpoint=False) == expected  # training decides nothing


def test_artifacts_are_named_where_no_setting_differs() -> None:
    """As where a file's content has changed; what was typed comes before what irexp made."""
    assert _labels([{}, {}], checkpoint=False) == [f"m artifact.index=m.d-{number:08}" for number in range(2)]
    rows = [{"artifact.initial": each} for each in ("one/model", "two/model")]
    assert _labels(rows, checkpoint=False) == [f"m artifact.initial={each}/model" for each in ("one", "two")]


def test_swept_settings_are_all_named() -> None:
    """One of them, such as a number that is drawn, may distinguish all rows alone; long numbers are rounded."""
    rows = [{"index.k1": 0.9367182020405163, "index.b": 0.1}, {"index.k1": 1.5443897010793888, "index.b": 0.2}]
    assert _labels(rows, checkpoint=False) == ["m index.k1=0.9367", "m index.k1=1.544"]
    found = _labels(rows, checkpoint=False, swept=("index.k1", "index.b"))
    assert found == ["m index.k1=0.9367 index.b=0.1", "m index.k1=1.544 index.b=0.2"]
    close = [{"index.k1": 0.93671820204}, {"index.k1": 0.93671820205}]
    assert _labels(close, checkpoint=False) == ["m index.k1=0.93671820204", "m index.k1=0.93671820205"]
