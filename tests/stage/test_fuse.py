"""Runs of other experiments, fused: made, found, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from irexp.artifact.candidates import fused_runs
from irexp.artifact.store import MissingArtifactError
from irexp.evaluation.run_file import read_run
from irexp.stage.chain import run_chain
from irexp.stage.job import _make_candidates
from irexp.types import UserError

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
def test_a_fusion_makes_its_runs_and_is_an_experiment_like_others(
    compose: Compose, settings: list[str], method: str
) -> None:
    """Also with weights that are tuned; the second time nothing is to be done; another run is another fusion."""
    config = compose(*settings, f"fuse.method={method}")
    _make_candidates(config, NAMES)
    outcomes = {outcome.stage: outcome for outcome in run_chain(config, NAMES, [])}
    assert (outcomes["fuse"].status, outcomes["evaluate"].status) == ("made", "made")
    assert not {"search", "re_rank"} & outcomes.keys()
    assert len({line.query_id for line in read_run(Path(str(outcomes["fuse"].path)) / "test.run")}) == 2
    if method == "wsum":
        weights = json.loads((Path(str(outcomes["fuse"].path)) / "weights.json").read_text())
        assert sum(weights) == pytest.approx(1)
    again = {outcome.stage: outcome.status for outcome in run_chain(config, NAMES, [])}
    assert (again["fuse"], again["evaluate"]) == ("already done", "already done")
    other = compose(
        *settings, f"fuse.method={method}", 'fuse.runs=[["model=bm25"],["model=sbert","training=none","seed=2"]]'
    )
    assert other.artifact.run != config.artifact.run


def test_a_fusion_says_what_it_lacks(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """A run that is not there, one run only, weights that fit nothing, and a file whose weights cannot be tuned."""
    with pytest.raises(MissingArtifactError, match=r"make it with model=bm25 stage=\[fit,index,search,re_rank,fuse\]"):
        list(run_chain(compose(*settings), ["fuse"], []))
    with pytest.raises(UserError, match="at least two runs"):
        list(run_chain(compose(*settings, 'fuse.runs=[["model=bm25"]]'), ["fuse"], []))
    with pytest.raises(UserError, match="1 weights for 2 runs"):
        list(run_chain(compose(*settings, "fuse.weights=[1.0]"), ["fuse"], []))
    with pytest.raises(MissingArtifactError, match=r"there is no nowhere\.run"):
        list(run_chain(compose(*settings, 'fuse.runs=[nowhere.run,["model=bm25"]]'), ["fuse"], []))
    run = tmp_path / "a.run"
    run.write_text("q0 Q0 d0 1 1.0 tag\n")
    given = compose(*settings, f"fuse.runs=[{run},{run}]")
    assert [outcome.status for outcome in run_chain(given, ["fuse"], [])] == ["made"]
    with pytest.raises(UserError, match=r"given as a file"):
        list(run_chain(compose(*settings, f"fuse.runs=[{run},{run}]", "fuse.method=wsum"), ["fuse"], []))
    twins = [f"fuse.runs=[{run},{run}]", "fuse.method=wsum", f"fuse.dev_runs=[{run},{run}]"]
    assert [outcome.status for outcome in run_chain(compose(*settings, *twins), ["fuse"], [])] == ["made"]
    for setting, message in {
        "fuse.depth=0": "at least one document a query",
        "fuse.step=0.3": "add up to 1 in whole steps",
        "fuse.step=0": "add up to 1 in whole steps",
        "fuse.measure=ndcg@10": r"fuse\.measure=ndcg@10: .*did you mean nDCG@10",
        "fuse.measure=P": r"fuse\.measure=P: .* a cutoff is written P@10",
        "fuse.dev_runs=[null]": "has 1 entries for 2 runs",
    }.items():
        with pytest.raises(UserError, match=message):
            list(run_chain(compose(*settings, *twins, setting), ["fuse"], []))
    unknown = compose(*settings, 'fuse.runs=[["model=nosuch"],["model=bm25"]]')
    with pytest.raises(UserError, match=r"the overrides model=nosuch compose no experiment"):
        fused_runs(unknown, dev=False)
