"""Fusion of the runs of other experiments: made, found, refused."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from irexp.artifact.store import MissingArtifactError
from irexp.evaluation.run_file import read_run
from irexp.types import UserError
from tests.chains import name_of, planned, run

Compose = Callable[..., DictConfig]

NAMES = ["fit", "encode", "index", "search", "re_rank", "fuse", "evaluate"]
RUNS = 'fuse.runs=[["model=bm25"],["model=sbert","training=none"]]'


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """A fusion over a small collection, whose development queries are its test queries."""
    folder = tmp_path / "toys"
    (folder / "qrels").mkdir(parents=True)
    texts = ["make a cup", "list a tree", "delete a song", "copy a cup of tree"]
    rows = [json.dumps({"_id": f"d{number}", "text": text}) for number, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "queries.jsonl").write_text('{"_id": "q0", "text": "make cup"}\n{"_id": "q1", "text": "song"}\n')
    for split in ("dev", "test"):
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td2\t1\n")
    paths = [f"dataset.path={folder}", f"paths.artifacts={tmp_path / 'artifacts'}"]
    return ["model=fusion", "dataset=local", *paths, "machine.progress=false", RUNS]


@pytest.mark.parametrize("method", ["rrf", "wsum"])
def test_a_fusion_makes_its_runs_once(compose: Compose, settings: list[str], method: str) -> None:
    """The second time everything is already done, tuned weights, too; another run makes another fusion."""
    overrides = [*settings, f"fuse.method={method}"]
    outcomes = run(compose, overrides, NAMES)
    assert {stage: outcome.status for stage, outcome in outcomes.items()} == {"fuse": "made", "evaluate": "made"}
    assert len({line.query_id for line in read_run(Path(str(outcomes["fuse"].path)) / "test.run")}) == 2
    if method == "wsum":
        weights = json.loads((Path(str(outcomes["fuse"].path)) / "weights.json").read_text())
        assert sum(weights) == pytest.approx(1)
    again = run(compose, overrides, NAMES)
    assert {outcome.status for outcome in again.values()} == {"already done"}
    other = 'fuse.runs=[["model=bm25"],["model=sbert","training=none","seed=2"]]'
    names = [name_of(planned(compose, typed, NAMES), "run") for typed in (overrides, [*overrides, other])]
    assert names[0] != names[1]


def test_a_fusion_trains_only_within_a_whole_pipeline(compose: Compose, settings: list[str]) -> None:
    """`stage=fuse` makes untrained runs automatically, but never fine-tunes."""
    trained = [*settings, 'fuse.runs=[["model=bm25"],["model=sbert"]]']
    command = r"make it with (.*) model=sbert 'stage=\[fit,index,search,re_rank,fuse\]'"
    with pytest.raises(MissingArtifactError, match=command) as error:
        run(compose, trained, ["fuse"])
    how = shlex.split(str(error.value).partition("make it with ")[2].partition(", or all")[0])
    assert how[:2] == ["python", "run.py"] and how[-1] == "stage=[fit,index,search,re_rank,fuse]"  # as a shell reads it
    assert run(compose, settings, ["fuse"])["fuse"].status == "made"


def test_a_fusion_with_wrong_settings_is_refused(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """A missing or single run, weights or steps that do not fit, and files whose weights cannot be tuned."""

    def refused(message: str, *overrides: str) -> None:
        with pytest.raises(UserError, match=message):
            planned(compose, [*settings, *overrides], ["fuse"])

    refused("at least two runs", 'fuse.runs=[["model=bm25"]]')
    refused("1 weights for 2 runs", "fuse.weights=[1.0]")
    refused(r"fuse\.runs=nowhere\.run: there is nothing at", 'fuse.runs=[nowhere.run,["model=bm25"]]')
    file = tmp_path / "a.run"
    file.write_text("q0 Q0 d0 1 1.0 tag\n")
    given = f"fuse.runs=[{file},{file}]"
    assert run(compose, [*settings, given], ["fuse"])["fuse"].status == "made"
    refused("cannot be tuned for a run file", given, "fuse.method=wsum")
    twins = [given, "fuse.method=wsum", f"fuse.dev_runs=[{file},{file}]"]
    assert run(compose, [*settings, *twins], ["fuse"])["fuse"].status == "made"
    for setting, message in {
        "fuse.depth=0": r"fuse\.depth: 0 is out of range",
        "fuse.step=0.3": "1 must be a multiple of it",
        "fuse.step=0": r"fuse\.step: 0\.0 is out of range",
        "fuse.measure=ndcg@10": "ndcg@10",
        "fuse.measure=P": "P@10",
        "fuse.dev_runs=[null]": "has 1 entries for 2 runs",
        "dataset.dev=null": "no development queries",
    }.items():
        refused(message, *twins, setting)
    refused(
        r"fuse\.runs=\[model=nosuch\]: model=nosuch: there is no such option",
        'fuse.runs=[["model=nosuch"],["model=bm25"]]',
    )
    refused(r"fuse\.runs=\[model=bm25, index\.k9=1\]", 'fuse.runs=[["model=bm25","index.k9=1"],["model=bm25"]]')
