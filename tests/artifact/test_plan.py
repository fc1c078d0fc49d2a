"""The plan of an experiment: its steps, their order, and every fault before anything is made."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from irexp.artifact import plan as plan_module
from irexp.artifact.experiment import Experiment
from irexp.artifact.identity import Identity, identify
from irexp.artifact.plan import Plan, make_plan
from irexp.artifact.spec import Other, Own, StageSpec
from irexp.artifact.stages import KINDS, STAGES, maker
from irexp.artifact.wiring import Node
from irexp.types import UserError
from tests.chains import Compose, planned, run, settings

ROOT = Path(__file__).parents[2]
ALL = ["fit", "encode", "index", "search", "re_rank", "fuse", "evaluate", "report"]


#: A file of training examples, of which only its content tells whether it has scores.
_TRIPLES = (
    *("dataset=triples", "dataset.documents.path=a.tsv", "dataset.test.queries_path=b.tsv", "dataset.train.path=t.tsv"),
    *("dataset.train.topics.queries_path=b.tsv", "training.validate_every=null"),
)


def plan_of(compose: Compose, *overrides: str, stages: list[str] = ALL) -> Plan:
    """The plan of overrides."""
    return make_plan(Experiment(tuple(overrides), compose(*overrides)), stages)


def names(plan: Plan) -> list[str]:
    """The kind and model of each artifact of a plan, in order."""
    return [step.name.partition(".")[0] for step in plan.steps if step.artifact is not None]


def test_every_stage_has_its_file_and_the_reverse() -> None:
    """conf/stage holds one file per listed stage, and the two that run several."""
    files = {path.stem for path in (ROOT / "conf" / "stage").glob("*.yaml")}
    assert files - {"all", "retrieve"} == set(STAGES)
    assert KINDS == ("checkpoint", "encoding", "index", "run", "scores", "examples", "measures", "speed")


def test_a_stage_function_takes_the_inputs_that_its_stage_lists() -> None:
    """After the folder come the inputs of the stage by the same names in the same order; else they are mixed up."""
    import importlib
    import inspect

    for name, stage in STAGES.items():
        stages = ROOT / "conf" / "stage"
        own = "fit" if name in ("overfit", "find_lr") else name  # whose files are made from that of fit
        target = str(OmegaConf.load(stages / f"{own}.yaml")._target_)
        module, _, function = target.rpartition(".")
        parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters.values()
        handed = [i for i, source in stage.inputs.items() if not isinstance(source, Own) or source.handed]
        taken = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        renamed = {"index_folder": "index", "negatives_run": "negatives"}
        assert [renamed.get(parameter, parameter) for parameter in taken[1:]] == handed, name
        if stage.makes is not None:  # a fit that makes nothing shares the function of the stage that does
            assert ("logger" in [p.name for p in parameters]) == stage.logged


def test_a_cascade_has_each_artifact_once_and_inputs_before_users(compose: Compose) -> None:
    """Three baselines and the experiment share BM25's index and runs, and both checkpoints."""
    plan = plan_of(compose, "experiment=cascade")
    steps = [step for step in plan.steps if step.artifact is not None]
    assert len({step.name for step in steps}) == len(steps) == 12
    assert Counter(step.name.partition("/")[0] for step in steps) == {
        "index": 1,
        "run": 5,
        "checkpoint": 2,
        "measures": 4,
    }
    for number, step in enumerate(plan.steps):
        assert all(before in plan.steps[:number] for _, before in step.before)
    (table,) = [step for step in plan.steps if step.name == "report"]
    assert [row.name.partition(".")[0] for _, row in table.before] == [
        "measures/bm25",
        "measures/colbert",
        "measures/mono",
        "measures/mono",
    ]
    reasons = {step.reason for step in plan.steps}
    assert "negatives.candidates of mono, for dataset.train.topics" in reasons
    assert "baseline model=bm25 re_rank=none" in reasons


def test_an_identity_is_computed_once(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage of each experiment that takes part is identified once, however many artifacts are made from it."""
    computed: list[Node] = []

    def counted(nodes: Sequence[Node]) -> dict[Node, Any]:
        computed.extend(nodes)
        return dict(identify(nodes))

    monkeypatch.setattr(plan_module, "identify", counted)
    plan = plan_of(compose, "experiment=cascade")
    stages = [(node.experiment, node.origin.name) for node in computed if isinstance(node.origin, StageSpec)]
    assert len(set(stages)) == len(stages) == len(computed) < 2 * len(plan.steps)


@pytest.mark.parametrize(
    ("overrides", "stages", "message"),
    [
        (["model=bm25"], ["fit"], r"there is nothing to make: stage=fit: bm25 has no checkpoint"),
        (
            ["artifact.checkpoint=irexp"],
            ["fit"],
            r"nothing to make: .*artifact\.checkpoint=irexp is given; to train it further set artifact\.initial=irexp",
        ),
        (
            ["artifact.checkpoint=irexp", "artifact.initial=irexp"],
            ALL,
            r"artifact\.initial=irexp: .* is no training: .*",
        ),
        (["model=bm25", "artifact.initial=irexp"], ALL, r"there is no training: bm25 has no checkpoint"),
        (["artifact.initial=./nowhere"], ["fit"], r"artifact\.initial=\./nowhere: there is nothing at"),
        ([], ["norms"], r"stage=norms: irexp/artifact/stages\.py does not list it"),
        ([], ["re_rank"], r"stage=re_rank needs a run to re-rank: re_rank=bm25"),
        ([], ["fuse"], r"stage=fuse needs runs to fuse: fuse=bm25_and_sbert"),
        (["model=mono", "re_rank=none"], ["search"], r"stage=search: mono has no index"),
        (["model=bm25", "re_rank=bm25"], ["re_rank"], r"stage=re_rank: bm25 has no checkpoint"),
        (["model=bm25"], ["export"], r"stage=export: bm25 has no encoding"),
        (["re_rank=bm25", "fuse=bm25_and_sbert"], ["fuse"], r"a run is either fused or re-ranked"),
        (["model=fusion", "fuse.method=wsum", "dataset.dev=null"], ["fuse"], r"fuse\.runs: needs dataset\.dev"),
        (["model=mono", "dataset.train.topics=null"], ["fit"], r"negatives\.candidates: needs dataset\.train\.topics"),
        (["artifact.run=nowhere.run"], ["evaluate"], r"artifact\.run=nowhere\.run: there is nothing at"),
        (["training.steps=3", "dataset.train=null"], ["fit"], r"there is no dataset\.train to learn from"),
        (["model=mono", "dataset.train=null"], ["fit"], r"run:\n  there is no dataset\.train .*artifact\.checkpoint=<"),
        (["model=mono", "dataset.train.topics=null"], ["fit"], r"does not set; set negatives=none to train with the"),
        (["loss=margin_mse"], ["fit"], r"MarginMSE learns a teacher's scores, and dataset\.train, QrelExamples, has"),
        (
            ["loss=kl_divergence", *_TRIPLES, "negatives=bm25"],
            ["fit"],
            r"negatives from a run lack; set negatives=none",
        ),
        (["~loss"], ["fit"], "there is no loss to minimise"),
        (["force=[search]"], ["index"], r"force=search: this command does not run stage=search"),
        (["artifact.run=irexp"], ["speed"], r"artifact\.run=irexp is given"),
        (["re_rank=bm25"], ["speed"], "another run is re-ranked"),
        (
            ["index=bm25"],
            ["index"],
            r"index: .* dense vectors and BM25Index takes texts; index=faiss_flat",
        ),
        (["model=bm25", "index=plaid"], ["search"], r"the model makes no vectors and Plaid takes .*; index=bm25"),
        (["model=colbert", "index=sharded"], ["encode"], r"vectors for each token and \w+ takes dense vectors"),
    ],
)
def test_a_fault_of_the_plan_is_refused_with_its_fix(
    compose: Compose, overrides: list[str], stages: list[str], message: str
) -> None:
    """A fault that is not found here would only appear after the stages before it have run."""
    with pytest.raises(UserError, match=message):
        plan_of(compose, *overrides, stages=stages)


def test_one_message_lists_the_faults_of_all_experiments(compose: Compose) -> None:
    """The faults of a baseline, of the re-ranked experiment and of the experiment itself, each with its origin."""
    with pytest.raises(UserError) as error:
        plan_of(
            compose,
            "model=mono",
            'baselines=[["model=bm25","index.k9=1"]]',
            're_rank.candidates=["model=colbert","re_rank=nosuch"]',
        )
    text = str(error.value)
    assert "baseline model=bm25 index.k9=1: index.k9: there is no such key; did you mean k1?" in text
    assert "re_rank.candidates=[model=colbert, re_rank=nosuch]: re_rank=nosuch: there is no such option in" in text
    with pytest.raises(UserError) as error:
        plan_of(compose, "model=mono", "re_rank.depth=0", "negatives.depth=0")
    assert "re_rank.depth: 0" in str(error.value) and "negatives.depth: 0" in str(error.value)


def test_a_skip_of_all_ranks_is_a_fault(compose: Compose) -> None:
    """Before the run of the negatives is made: none of its documents would be drawn."""
    with pytest.raises(UserError, match=r"negatives\.skip=100 leaves no rank of negatives\.depth=100; skip fewer"):
        plan_of(compose, "model=sbert", "negatives=bm25", "negatives.skip=100", stages=["fit"])
    plan_of(compose, "model=sbert", "negatives=bm25", "negatives.skip=99", stages=["fit"])


def test_a_dataset_without_judgements_is_searched_but_not_evaluated(compose: Compose) -> None:
    """`stage=retrieve` makes the run, and gives the reason for skipping the evaluation."""
    overrides = ["dataset=files", "dataset.documents.path=a.tsv", "dataset.test.queries_path=b.tsv", "model=bm25"]
    plan = plan_of(compose, *overrides, stages=["index", "search", "evaluate"])
    assert [step.stage.name for step in plan.own if step.stage] == ["index", "search"]
    assert plan.skipped == {"evaluate": "dataset.test.qrels_path=null: there are no judgements"}


def test_a_given_artifact_makes_the_stages_before_it_unnecessary(compose: Compose) -> None:
    """A given run needs no model, a given index no encoding, and a given checkpoint is not trained."""
    given = {
        "artifact.run=irexp": ["evaluate"],
        "artifact.index=irexp": ["fit", "search", "evaluate"],
        "artifact.checkpoint=irexp": ["encode", "index", "search", "evaluate"],
    }
    for override, expected in given.items():
        plan = plan_of(compose, override, "baselines=[]", stages=ALL[:-1])
        assert [step.stage.name for step in plan.own if step.stage] == expected


#: Collections without training queries: their options, and what they need to be told.
_UNTRAINED = [
    [
        "dataset=files",
        "dataset.documents.path=a.tsv",
        "dataset.test.queries_path=b.tsv",
        "dataset.test.qrels_path=c.tsv",
    ],
    ["dataset=irds", "dataset.id=vaswani"],
    ["dataset=nano_beir_nq"],
    ["dataset=msmarco_passage"],
    ["dataset=trec_dl_2019"],
]


@pytest.mark.parametrize(
    ("model", "dataset"),
    [(model, _UNTRAINED[0]) for model in ("mono", "mono_t5", "rank_t5", "mono_decoder", "set_encoder")]
    + [("mono", dataset) for dataset in _UNTRAINED[1:]],
)
def test_a_given_cross_encoder_needs_neither_training_queries_nor_negatives(
    compose: Compose, model: str, dataset: list[str]
) -> None:
    """The whole pipeline of a given checkpoint is planned, and nothing in it is for training."""
    plan = plan_of(compose, f"model={model}", "artifact.checkpoint=theirs/model", *dataset)
    assert {step.name.partition("/")[0] for step in plan.steps} == {"theirs", "index", "run", "measures", "report"}
    assert not any("negatives" in step.reason or step.trains for step in plan.steps)


def test_triples_without_training_queries_bring_their_own_negatives(compose: Compose) -> None:
    """A cross-encoder trains on MS MARCO without a run over its training queries, wherever its option is typed."""
    for overrides in (["model=mono", "dataset=msmarco_passage"], ["dataset=trec_dl_2020", "model=set_encoder"]):
        (fitted,) = plan_of(compose, *overrides, stages=["fit"]).steps
        assert fitted.trains and fitted.inputs["negatives"] is None
        assert fitted.experiment.values["negatives"]["count"] is None


def test_the_checkpoint_that_training_starts_from_is_part_of_the_identity(compose: Compose) -> None:
    """Everything that is made of the trained model gets another name, and BM25's artifacts keep theirs."""
    plans = [
        plan_of(compose, 'baselines=[["model=bm25"]]', *overrides, stages=ALL)
        for overrides in ([], ["artifact.initial=theirs/model"], ["artifact.initial=theirs/another"])
    ]
    names_of = [{step.name for step in plan.steps if step.stage and step.artifact} for plan in plans]
    shared = names_of[0] & names_of[1] & names_of[2]
    assert shared == {name for name in names_of[0] if "bm25" in name} != set()
    assert all(len(names) == len(names_of[0]) for names in names_of)
    (fitted,) = [step for step in plans[1].own if step.stage is STAGES["fit"]]
    assert [(name, step.name) for name, step in fitted.before] == [("initial", "theirs/model")]
    assert isinstance(fitted.artifact, Identity)
    assert fitted.artifact.made_from["artifact.initial"] == {"hub": "theirs/model", "revision": None}


def test_no_plan_trains_unasked(compose: Compose) -> None:
    """A plan trains only where `fit` was requested, and trains for other experiments only in a full pipeline."""
    seen = 0
    for overrides in (["experiment=cascade"], ["model=fusion"], ["model=mono"], ["model=sbert"], ["model=bm25"]):
        for stages in (["search"], ["re_rank"], ["fuse"], ["evaluate"], ["fit"], ["fit", "evaluate"], ALL):
            try:
                plan = plan_of(compose, *overrides, stages=stages)
            except UserError:
                continue  # some of these combinations have nothing to make
            for step in plan.steps:
                seen += step.trains
                if step.trains and step in plan.makes:
                    is_own = step.experiment is plan.experiment or step.reason.startswith("baseline")
                    assert "fit" in stages and (is_own or "evaluate" in stages)
                if step.trains and stages == ALL:
                    assert step in plan.makes
    assert seen > 10


def test_each_kind_has_one_stage_and_a_run_one_per_way() -> None:
    """With two stages for a kind, it would depend on their order in the list which one makes it."""
    empty = {"fuse": {"runs": None}, "re_rank": {"candidates": None}}
    assert maker(empty, "run").name == "search"
    assert maker({**empty, "re_rank": {"candidates": "x"}}, "run").name == "re_rank"
    assert maker({**empty, "fuse": {"runs": []}}, "run").name == "fuse"
    makers = Counter(stage.makes for stage in STAGES.values() if stage.makes)
    assert makers == {kind: 3 if kind == "run" else 1 for kind in KINDS}
    for stage in STAGES.values():
        for source in stage.inputs.values():
            assert not isinstance(source, Own) or source.kind in KINDS
            assert not isinstance(source, Other) or source.kind in KINDS


@pytest.mark.parametrize("command", [["experiment=cascade"], ["model=fusion", "fuse.method=wsum"]])
def test_a_dry_run_prints_the_plan_without_torch(command: list[str], tmp_path: Path) -> None:
    """A dry run answers in about a second, since it imports no heavy package, and it makes no artifact."""
    code = (
        "import sys, runpy\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
        "heavy = {'torch', 'lightning', 'transformers', 'faiss', 'ir_datasets', 'bm25s'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    places = [f"paths.artifacts={tmp_path / 'artifacts'}", f"hydra.run.dir={tmp_path / 'output'}"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "run.py"), *command, "dry_run=true", *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "to make" in line]
    kinds = Counter(line.partition("/")[0].rpartition(" ")[2] for line in lines)
    expected = {"index": 1, "run": 5, "checkpoint": 2, "measures": 4}
    assert kinds == (expected if command == ["experiment=cascade"] else dict(kinds)) and len(lines) >= 9
    assert not (tmp_path / "artifacts").exists()


def test_a_given_artifact_that_is_damaged_is_refused_however_it_is_named(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Nothing is made from a damaged artifact, given by identifier or by path."""
    base = settings(tmp_path, collection)
    made = run(compose, base)
    for kind, stage, file in (("checkpoint", "fit", "model.safetensors"), ("run", "search", "test.run")):
        folder = Path(str(made[stage].path))
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
        for name in (f"{kind}/{folder.name}", str(folder)):
            typed = settings(tmp_path, collection, f"artifact.{kind}={name}", "search.depth=7")
            typed += ["evaluation.measures=[AP]"]
            with pytest.raises(UserError, match=rf"{file} has changed since"):
                run(compose, typed, ["encode", "index", "search", "evaluate"] if kind == "checkpoint" else ["evaluate"])
        (folder / file).write_bytes(content)
    assert {outcome.status for outcome in run(compose, base).values()} == {"already done"}


def test_an_existing_artifact_does_not_need_its_inputs(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """An existing run is evaluated without its index; only a new search reports the missing index."""
    base = settings(tmp_path, collection)
    made = run(compose, base)
    folder = Path(str(made["index"].path))
    folder.rename(tmp_path / "elsewhere")
    assert run(compose, base, ["evaluate"])["evaluate"].status == "already done"
    with pytest.raises(UserError, match=r"there is no index/.*stage=index"):
        run(compose, [*base, "search.depth=3"], ["search"])
    assert planned(compose, base).own[2].name == f"index/{folder.name}"
