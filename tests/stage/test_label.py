"""The labels of table rows name the model or run, and the settings in which rows differ."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from irexp.artifact.experiment import composed
from irexp.artifact.lineage import Lineage
from irexp.artifact.plan import make_plan
from irexp.artifact.store import Store
from irexp.stage.execute import execute
from irexp.stage.label import labels
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
    """A run file or checkpoint folder is labelled by its name, two of one name by their full paths."""
    made = Path(str(run(compose, settings(tmp_path, collection))["fit"].path))
    (made / "manifest.json").unlink()
    names = []
    for place in ("one", "two"):
        target = tmp_path / place / "model"
        shutil.copytree(made, target)
        (target / "note.txt").write_text(place)  # different content makes another checkpoint
        typed = settings(tmp_path, collection, f"artifact.checkpoint={target}")
        names.append(f"measures/{Path(str(run(compose, typed)['evaluate'].path)).name}")
    file = tmp_path / "their.run"
    file.write_text("d0 Q0 d3 1 2.5 theirs\n")
    typed = settings(tmp_path, collection, f"artifact.run={file}")
    names.append(f"measures/{Path(str(run(compose, typed, ['evaluate'])['evaluate'].path)).name}")
    found = labels(names, Lineage(Store(tmp_path / "artifacts")))
    assert found == [
        f"model artifact.checkpoint={tmp_path / 'one' / 'model'}",
        f"model artifact.checkpoint={tmp_path / 'two' / 'model'}",
        "their.run",
    ]
