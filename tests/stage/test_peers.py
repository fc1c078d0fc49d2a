"""The comparison with other libraries refuses what it cannot compare, and measures what it can."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from irexp.artifact.experiment import Experiment
from irexp.config.built import built
from irexp.types import UserError
from tests import tiny
from tests.chains import Compose, write_collection


def measured(compose: Compose, tmp_path: Path, *more: str) -> Path:
    """Run stage=peers over a dozen documents with a tiny model; returns the folder of its results."""
    judged = "d0\td0\t1\nq2\td4\t1\nq3\td11\t1\n"
    queries = {"d0": "make a cup", "q2": "list a tree", "q3": "copy a song"}
    collection = write_collection(tmp_path / "toys", queries, {"train": judged, "test": judged})
    backbone = ["backbone=hugging_face", f"backbone.name_or_path={tiny.bert(tmp_path / 'bert')}"]
    typed = [*backbone, "dataset=local", f"dataset.path={collection}", "machine=cpu", "machine.progress=false"]
    typed += ["stage=peers", f"stage.peers.folder={tmp_path / 'found'}", "stage.peers.rounds=1", *more]
    experiment = Experiment(tuple(typed), compose(*typed), {"backbone": "tiny"})
    built(experiment.stage_node("peers"))(tmp_path, experiment)
    return tmp_path / "found"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["stage.peers.task=encod"], "stage.peers.task=encod is not a task; did you mean encode?"),
        (["stage.peers.models=[splad]", "stage.peers.task=fit"], "splad is not compared in fit; did you mean splade?"),
        (
            ["+stage.peers.variants.a=['search.depth=3']"],
            "'irexp, a' changes search.depth; in task=encode a",
        ),
        (
            ["stage.peers.task=re_rank", "stage.peers.models=[mono]", "+stage.peers.variants.a=['re_rank.depth=3']"],
            "'irexp, a' changes re_rank.depth; in task=re_rank a line may change values of machine, re_rank.precision",
        ),
        (["stage.peers.steps=2"], "stage.peers.steps=2 is out of range; it must be at least 3"),
        (["stage.peers.python.pylate=nowhere"], "stage.peers.python.pylate=nowhere is not a program"),
        (["+stage.peers.variants.a=['machine.token_budget=0']"], "machine.token_budget: 0 is out of range"),
        (["stage.peers.task=fit", "dataset.train=null"], "stage.peers.task=fit needs training examples"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_measured(
    compose: Compose, tmp_path: Path, more: list[str], message: str
) -> None:
    """One line that says what, where and how to fix it."""
    with pytest.raises(UserError) as error:
        measured(compose, tmp_path, *more)
    assert message in str(error.value)
    assert not (tmp_path / "found").exists()


@pytest.mark.slow
def test_each_line_is_measured_in_a_process_of_its_own(compose: Compose, tmp_path: Path) -> None:
    """It has the seconds of each round, and its results are those of irexp."""
    folder = measured(
        compose,
        tmp_path,
        "+stage.peers.variants.small=['machine.token_budget=64']",
        f"stage.peers.python.sentence_transformers={os.path.relpath(sys.executable)}",
        "stage.peers.lengths=[4]",
    )
    kept = json.loads((folder / "speed_encode.json").read_text())
    assert [line["name"] for line in kept["lines"]] == ["irexp", "sentence-transformers", "irexp, small"]
    for line in kept["lines"]:
        assert len(line["cpu_seconds"]) == len(line["wall_seconds"]) == 1
        assert line["mib"] > 100 and line["difference"] < 1e-4
    assert kept["left_out"] == ["Lightning IR, since stage.peers.python.lightning_ir is not set"]
    assert [point["name"] for point in kept["points"]] == ["irexp", "sentence-transformers"]
    assert "| sbert | irexp, small |" in (folder / "README.md").read_text()
    assert (folder / "speed_encode.svg").stat().st_size > 1000
