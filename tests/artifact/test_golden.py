"""The names of artifacts are frozen, so that this version of irexp finds what an earlier one made.

`golden.json` was written before the plan of an experiment was first built. A name in it changes only together with a
raised content version, and then by hand: `python -m tests.artifact.test_golden` writes the file again.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from irexp.artifact import experiment as experiment_module
from irexp.artifact import identity
from irexp.artifact.experiment import Experiment
from irexp.artifact.plan import draft_plan
from irexp.artifact.stages import KINDS, STAGES
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from tests.conf.test_conf import CONF, OPTIONS, USER_VALUES

GOLDEN = Path(__file__).resolve().with_name("golden.json")

#: Beyond the options of conf/: experiments made from other experiments, nested ones too, and given artifacts.
EXPERIMENTS = [
    "",
    "seed=1",
    "model=colbert",
    "model=colbert re_rank=bm25",
    "model=mono re_rank.depth=30",
    "model=mono re_rank=colbert_over_bm25",
    'model=mono \'re_rank.candidates=["model=splade","training.steps=200"]\'',
    "model=mono re_rank.candidates=their.run artifact.checkpoint=theirs/model",
    "model=sbert negatives=bm25",
    'model=sbert \'negatives.candidates=["model=colbert","re_rank=bm25"]\' negatives.depth=20',
    "model=sbert 'negatives.candidates=[[\"model=bm25\"],their.run]' negatives.depth=20 negatives.keep=5",
    "model=sbert negatives=mined 'teacher.scores=[\"model=mono\"]' loss=margin_mse",
    'model=sbert negatives=bm25 \'teacher.scores=["model=mono","artifact.checkpoint=theirs/model"]\' loss=rank_net',
    'model=sbert \'artifact.initial=["model=sbert","negatives=bm25"]\'',
    "model=sbert training=none",
    "model=sbert artifact.checkpoint=sentence-transformers/all-MiniLM-L6-v2",
    "model=sbert artifact.checkpoint=checkpoint/sbert.aws_howto-12345678",
    "artifact.run=their.run",
    "artifact.index=index/sbert.aws_howto-12345678",
    "model=fusion",
    "model=fusion fuse.method=wsum",
    "model=fusion fuse.method=wsum fuse.weights=[0.5,0.5]",
    'model=fusion \'fuse.runs=[["model=bm25"],["model=mono"],their.run]\'',
    "model=fusion fuse.method=wsum 'fuse.runs=[[\"model=bm25\"],their.run]' 'fuse.dev_runs=[null,their.dev.run]'",
    'model=fusion \'fuse.runs=[["model=fusion"],["experiment=cascade"]]\'',
    "experiment=cascade model=colbert re_rank=bm25 dataset=vaswani",
    "model=sbert index=faiss_ivf index.search.probes=4 search.depth=50",
    "model=sbert index=sharded index@index.engine=faiss_ivf",
    "model=colbert index=muvera index.search.rescored=50",
    "model=sbert adapter=lora regularizer=l1 loss=margin_mse schedule=cosine encoding=half",
    "loss=[kl_divergence,margin_mse] loss.weights.margin_mse=0.05",
    "false_negatives=guide false_negatives.guide=checkpoint/sbert.aws_howto-12345678 false_negatives.margin=-0.05",
    "model=bm25 index.k1=0.9 index.b=0.4 dataset=trec_dl_2019 evaluation=trec_dl",
]


#: The stages that a table needs; scores are part of the names of the checkpoints that learn them.
_ON_THE_WAY = [name for name, stage in STAGES.items() if stage.makes not in (None, "scores")]


def names(line: str) -> str:
    """The names of the artifacts that the experiment of these overrides makes itself."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=shlex.split(line))
        plan, _ = draft_plan(Experiment(tuple(shlex.split(line)), config), _ON_THE_WAY)
        steps = [step for kind in KINDS for step in plan.goals if step.artifact and step.artifact.kind == kind]
        return " ".join(dict.fromkeys(step.name for step in steps))


#: Without conf/stage: which stages run changes no name; and without suites, whose cells are those of their collections.
_SUITES = ("suite/beir", "suite/nano_beir", "experiment/beir", "experiment/nano_beir")
_MOVING = [option for option in OPTIONS if not option.startswith("stage/") and option not in _SUITES]
_OPTION_LINES = [f"{option.replace('/', '=')} {' '.join(USER_VALUES.get(option, []))}".strip() for option in _MOVING]
LINES = list(dict.fromkeys([*EXPERIMENTS, *_OPTION_LINES]))


@pytest.fixture
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No hub model, no file that an override names, a fixed processor and no GPU."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(identity, "processor", lambda: "a processor")
    monkeypatch.setattr(identity, "usable_gpu", lambda: None)
    monkeypatch.setattr(experiment_module, "fetch_revision", lambda name, root: None)
    register_resolvers()
    register_schema()
    yield


@pytest.mark.parametrize("line", LINES)
def test_the_names_of_an_experiments_artifacts_are_unchanged(line: str, isolated: None) -> None:
    """A name that changes makes irexp miss the artifacts that users have."""
    assert names(line) == json.loads(GOLDEN.read_text(encoding="utf8"))[line]


def test_golden_json_holds_exactly_the_tested_lines() -> None:
    """A line without a frozen name would not be tested."""
    assert sorted(json.loads(GOLDEN.read_text(encoding="utf8"))) == sorted(LINES)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HUB_CACHE"] = folder
        os.chdir(folder)
        identity.processor = lambda: "a processor"  # type: ignore[attr-defined]
        register_resolvers()
        register_schema()
        GOLDEN.write_text(json.dumps({line: names(line) for line in LINES}, indent=1) + "\n", encoding="utf8")
