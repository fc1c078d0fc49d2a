"""The growth of the stages' costs: every size is measured, and proportional growth is shown as 1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from irexp.artifact.experiment import Experiment
from irexp.config.built import built
from irexp.peer.growth_work import SHARED, STAGES
from irexp.stage.growth import Cost, table
from irexp.types import UserError
from tests import tiny
from tests.chains import Compose


def grown(compose: Compose, tmp_path: Path, *more: str) -> None:
    """Run stage=growth with a tiny model."""
    backbone = ["backbone=hugging_face", f"backbone.name_or_path={tiny.long_bert(tmp_path / 'bert')}"]
    typed = [*backbone, "machine=cpu", "machine.progress=false", "machine.shard_size=16", "stage=growth"]
    typed += [f"stage.growth.folder={tmp_path / 'found'}", *more]
    experiment = Experiment(tuple(typed), compose(*typed))
    built(experiment.stage_node("growth"))(tmp_path, experiment)


def test_growth_in_proportion_is_one() -> None:
    """Of documents where they are read, of queries where these are, of both in a search."""
    costs = [
        Cost("encode", 10, 5, 1, 2.0, 3),
        Cost("search", 10, 5, 1, 1.0, 3),
        Cost("evaluate", 10, 5, 1, 1.0, 3),
        Cost("encode", 20, 5, 1, 4.0, 3),
        Cost("encode", 20, 5, 2, 9.0, None),
        Cost("search", 20, 10, 1, 4.0, 3),
        Cost("evaluate", 20, 10, 1, 4.0, 3),
    ]
    assert table(costs).splitlines()[2:] == [
        "| encode | 1 | 10 | 5 | 2.00 | 3 | 1.00 |",
        "| encode | 1 | 20 | 5 | 4.00 | 3 | 1.00 |",
        "| encode | 2 | 20 | 5 | 9.00 |  | 1.00 |",
        "| search | 1 | 10 | 5 | 1.00 | 3 | 1.00 |",
        "| search | 1 | 20 | 10 | 4.00 | 3 | 1.00 |",
        "| evaluate | 1 | 10 | 5 | 1.00 | 3 | 1.00 |",
        "| evaluate | 1 | 20 | 10 | 4.00 | 3 | 2.00 |",
    ]


def test_the_record_says_several_processes_only_of_stages_that_they_share() -> None:
    """The table in its README is that of its JSON file; the parts of no other stage than encode are shared."""
    folder = Path(__file__).parents[2] / "experiments" / "speed"
    costs = [Cost(**cost) for cost in json.loads((folder / "growth.json").read_text(encoding="utf8"))["costs"]]
    assert {cost.stage for cost in costs if cost.processes > 1} == set(SHARED) == {"encode"}
    assert len(costs) == 4 * (len(STAGES) + len(SHARED))
    assert f"\n\n{table(costs)}\n\n" in (folder / "README.md").read_text(encoding="utf8")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("stage.growth.queries=[]", "stage.growth.queries=[] must list numbers of at least 1"),
        ("stage.growth.documents=[0]", "stage.growth.documents=[0] must list numbers of at least 1"),
        ("model=mono", "stage=growth needs a bi-encoder, and mono is a cross-encoder"),
    ],
)
def test_what_cannot_grow_is_refused(compose: Compose, tmp_path: Path, more: str, message: str) -> None:
    """Before anything is written."""
    with pytest.raises(UserError) as error:
        grown(compose, tmp_path, more)
    assert message in str(error.value)
    assert not (tmp_path / "found").exists()


@pytest.mark.slow
def test_every_stage_is_measured_for_every_size(compose: Compose, tmp_path: Path) -> None:
    """Each in a process of its own, and encode, which alone several processes share, in two."""
    sizes = ["stage.growth.documents=[40]", "stage.growth.queries=[3]", "stage.growth.processes=[2]"]
    grown(compose, tmp_path, *sizes)
    kept = json.loads((tmp_path / "found" / "growth.json").read_text())["costs"]
    processes = {"encode": 2, "index": 1, "search": 1, "re_rank": 1, "evaluate": 1}
    assert [(cost["stage"], cost["processes"]) for cost in kept] == list(processes.items())
    about = json.loads((tmp_path / "found" / "growth.json").read_text())["about"]
    assert about.keys() == {"processor", "backbone", "torch", "transformers"}
    assert all(cost["seconds"] > 0 for cost in kept)
    assert "| encode | 2 | 40 | 3 |" in (tmp_path / "found" / "README.md").read_text()
    assert (tmp_path / "found" / "growth.svg").is_file()
