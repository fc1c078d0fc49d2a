"""Re-ranking and mined negatives use runs of other experiments: by overrides, identifier or file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from irexp import load
from irexp.artifact.lineage import Lineage
from irexp.artifact.plan import Plan, Step
from irexp.artifact.store import MissingArtifactError, Store
from irexp.dataset.irds import IrdsScoredDocs
from irexp.evaluation.run_file import read_run
from irexp.model.model import Model
from irexp.pipeline import re_rank as pipeline
from irexp.pipeline.re_rank import Candidates
from irexp.stage.label import labels
from irexp.types import UserError
from tests.chains import TEXTS, Compose, name_of, planned, run, write_collection
from tests.irds import registered


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A dozen documents in BEIR's layout, with queries to train on and to answer."""
    queries = {"q0": "make cups", "q1": "list songs", "t0": "delete the tree", "t1": "copy some songs"}
    judged = {"test": "q0\td0\t1\nq1\td5\t1\n", "train": "t0\td7\t1\nt1\td11\t1\n"}
    return write_collection(tmp_path / "toys", queries, judged)


@pytest.fixture
def settings(tmp_path: Path, collection: Path) -> list[str]:
    """The overrides of a short training on the collection."""
    return [
        "dataset=local",
        f"dataset.path={collection}",
        "dataset.dev=null",
        "dataset.query_length=12",
        "dataset.document_length=16",
        "training.steps=2",
        "training.batch_size=2",
        "training.validate_every=null",
        f"paths.artifacts={tmp_path / 'artifacts'}",
        "machine.progress=false",
        "machine.threads=1",
    ]


NAMES = ["fit", "encode", "index", "search", "re_rank", "evaluate"]


def whole(compose: Compose, overrides: list[str]) -> dict[str, Path]:
    """Run all stages; return the folder of each artifact."""
    return {stage: Path(str(outcome.path)) for stage, outcome in run(compose, overrides, NAMES).items()}


@pytest.mark.parametrize("model", ["mono", "set_encoder", "colbert", "splade", "sbert"])
def test_any_model_re_ranks_the_results_of_bm25(compose: Compose, settings: list[str], model: str) -> None:
    """The documents are BM25's top documents, the scores are the model's."""
    overrides = [*settings, f"model={model}", "re_rank=bm25", "re_rank.depth=3"]
    paths = whole(compose, overrides)
    assert set(paths) == {"fit", "re_rank", "evaluate"}
    (row,) = labels([f"measures/{paths['evaluate'].name}"], Lineage(Store(planned(compose, overrides).experiment.root)))
    assert row == f"{model} over bm25"
    plan = planned(compose, overrides, NAMES)
    first_stage = plan.experiment.root / name_of(plan, "run", "re_rank.candidates") / "test.run"
    found: dict[str, dict[str, float]] = {}
    for query_id, doc_id, score in read_run(paths["re_rank"] / "test.run"):
        found.setdefault(query_id, {})[doc_id] = score
    expected: dict[str, list[str]] = {}
    for query_id, doc_id, _ in read_run(first_stage):
        expected.setdefault(query_id, []).append(doc_id)
    assert {query_id: set(scores) for query_id, scores in found.items()} == {q: set(d[:3]) for q, d in expected.items()}
    scorer = load(paths["fit"], query_length=12, document_length=16)
    doc_ids = list(found["q0"])
    scores = scorer.score("make cups", [TEXTS[int(doc_id[1:])] for doc_id in doc_ids]).tolist()
    assert [found["q0"][doc_id] for doc_id in doc_ids] == pytest.approx(scores, rel=1e-4, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mono", "sbert"])
def test_a_run_in_another_precision_is_another_run(compose: Compose, settings: list[str], model: str) -> None:
    """With nearly the same scores; the table names the difference, and the stage of scores has the same key."""
    overrides = [*settings, f"model={model}", "training=none", "re_rank=bm25", "re_rank.depth=3", "machine=cpu"]
    exact = whole(compose, overrides)
    lower = whole(compose, [*overrides, "re_rank.precision=int8"])
    assert lower["fit"] == exact["fit"] and lower["re_rank"] != exact["re_rank"]
    one, two = (
        {(query_id, doc_id): score for query_id, doc_id, score in read_run(paths["re_rank"] / "test.run")}
        for paths in (exact, lower)
    )
    assert two != one and two == pytest.approx(one, rel=0.1, abs=0.02)
    rows = labels(
        [f"measures/{paths['evaluate'].name}" for paths in (exact, lower)],
        Lineage(Store(planned(compose, overrides).experiment.root)),
    )
    assert [row.rpartition(" ")[2] for row in rows] == ["re_rank.precision=float32", "re_rank.precision=int8"]
    runs = [
        run(compose, [*overrides, "machine.query_batch=1", *more], ["score"])["score"].path
        for more in ([], ["score.precision=int8"])
    ]
    assert runs[0] != runs[1]


def test_a_run_file_and_a_run_identifier_are_re_ranked(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """A TREC file separated by spaces, and a run named by its identifier in the store."""
    theirs = tmp_path / "theirs.run"
    theirs.write_text("q0 Q0 d3 1 0.5 x\nq0 Q0 d4 2 7.5 x\nq1 Q0 d5 1 2 x\n")
    paths = whole(compose, [*settings, "model=mono", f"re_rank.candidates={theirs}", "re_rank.depth=1"])
    lines = [(line.query_id, line.doc_id) for line in read_run(paths["re_rank"] / "test.run")]
    assert lines == [("q0", "d4"), ("q1", "d5")]  # the top by score, whatever the order of the lines
    identifier = f"run/{paths['re_rank'].name}"
    again = whole(compose, [*settings, "model=sbert", f"re_rank.candidates={identifier}"])
    assert {line.doc_id for line in read_run(again["re_rank"] / "test.run")} == {"d4", "d5"}


def test_identities_depend_on_the_re_ranked_run(compose: Compose, settings: list[str]) -> None:
    """Another first stage, depth or checkpoint makes another run; other negatives make another checkpoint."""

    def names(*overrides: str) -> dict[str, str]:
        plan = planned(compose, [*settings, "model=mono", *overrides], NAMES)
        reasons = {"run": "this", "checkpoint": "this", "candidates": "re_rank.cand", "negatives": "negatives.cand"}
        return {
            name: name_of(plan, name if name in ("run", "checkpoint") else "run", reason)
            for name, reason in reasons.items()
        }

    base = names()
    assert base["candidates"].startswith("run/bm25.toys-")
    assert base["negatives"].startswith("run/bm25.toys-")
    assert base["negatives"] != base["candidates"]  # other queries
    changes = ["re_rank.depth=7", "seed=3", "re_rank.precision=bfloat16", "re_rank.precision=int8"]
    for change in ('re_rank.candidates=["model=bm25","index.k1=2.0"]', *changes):
        assert names(change)["run"] != base["run"]
    assert names("re_rank.precision=float32") == base
    assert names("re_rank.depth=7")["checkpoint"] == base["checkpoint"]
    deeper = names('negatives.candidates=["model=bm25","index.k1=2.0"]')
    assert deeper["checkpoint"] != base["checkpoint"]
    assert deeper["candidates"] == base["candidates"]
    without_runs = planned(compose, [*settings, "model=sbert"], NAMES)
    assert {step.reason for step in plan_steps(without_runs)} == {"this experiment"}


def plan_steps(plan: Plan) -> list[Step]:
    """The steps of a plan that make an artifact."""
    return [step for step in plan.steps if step.artifact is not None]


def test_a_re_ranked_run_is_re_ranked_again(compose: Compose, settings: list[str]) -> None:
    """The runs of the chain are made first, from the first stage on."""
    overrides = [*settings, "model=mono", 're_rank.candidates=["model=sbert","re_rank=bm25","training=none"]']
    steps = [step.name.partition(".")[0] for step in plan_steps(planned(compose, overrides, NAMES))]
    assert steps.index("run/bm25") < steps.index("run/sbert") < steps.index("run/mono")
    assert "re_rank" in whole(compose, overrides)


def test_what_is_missing_is_named_with_the_command(compose: Compose, settings: list[str]) -> None:
    """A run whose model must be trained is not made automatically; a missing file is named."""
    run(compose, [*settings, "model=mono", "training=none"], ["fit"])
    sbert = 're_rank.candidates=["model=sbert","training.validate_every=null","training.steps=2"]'
    overrides = [*settings, "model=mono", "training=none", sbert]
    with pytest.raises(MissingArtifactError, match=r"make it with .* training.steps=2 'stage=\[fit,index"):
        run(compose, overrides, ["re_rank"])
    with pytest.raises(UserError, match=r"re_rank.candidates=nowhere.run: there is nothing at"):
        planned(compose, [*settings, "model=mono", "re_rank.candidates=nowhere.run"], ["re_rank"])


@pytest.mark.slow
def test_a_search_alone_never_trains(compose: Compose, settings: list[str]) -> None:
    """A stage makes what was asked for, and runs of other experiments only if they need no training."""
    colbert = 'negatives.candidates=["model=colbert","training.steps=2","training.validate_every=null"]'
    negatives = [*settings, "model=sbert", colbert, "negatives.depth=3"]
    for stages in (["search"], ["encode", "index", "search", "evaluate"]):
        with pytest.raises(MissingArtifactError, match=r"there is no checkpoint/sbert.*stage=fit"):
            run(compose, negatives, stages)
    with pytest.raises(MissingArtifactError, match=r"there is no checkpoint/colbert"):
        run(compose, negatives, ["fit"])
    assert run(compose, negatives, NAMES)["fit"].status == "made"
    untrained = [
        *settings,
        "model=sbert",
        'negatives.candidates=["model=colbert","training=none"]',
        "negatives.depth=3",
    ]
    assert run(compose, untrained, ["fit"])["fit"].status == "made"


def test_the_overrides_of_another_experiment_make_its_artifact(compose: Compose, settings: list[str]) -> None:
    """For each step, planning its experiment's overrides gives an artifact of the same name."""
    colbert = 're_rank.candidates=["model=colbert","re_rank=bm25","seed=3","training.validate_every=null"]'
    overrides = [*settings, "model=mono", colbert]
    plan = planned(compose, overrides, NAMES)
    others = [step for step in plan_steps(plan) if step.reason != "this experiment" and step.stage]
    assert {step.stage.name for step in others if step.stage} == {"fit", "index", "search", "re_rank"}
    for step in others:
        assert step.stage is not None
        typed = planned(compose, list(step.experiment.overrides), [step.stage.name])
        assert [goal.name for goal in typed.own] == [step.name]


def test_re_ranking_that_cannot_work_is_refused(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """Unknown documents, a run over other queries, a depth of 0, and an index of a cross-encoder."""
    theirs = tmp_path / "theirs.run"
    theirs.write_text("q0 Q0 d1 1 0.5 x\nq1 Q0 nowhere 1 0.5 x\n")
    base = [*settings, "model=mono", "training.steps=0"]
    overrides = [*base, f"re_rank.candidates={theirs}", "machine.query_batch=1"]
    checkpoint = run(compose, overrides, ["fit"])["fit"].path
    with pytest.raises(UserError, match="1 documents of the run are not in the collection, such as 'nowhere'"):
        run(compose, overrides, ["re_rank"])
    assert list(tmp_path.glob("**/*.run")) == [theirs]  # not even of the query before it
    theirs.write_text("other Q0 d1 1 0.5 x\n")
    with pytest.raises(UserError, match="answers none of the queries"):
        run(compose, overrides, ["re_rank"])
    theirs.write_text("q0 Q0 d1 1 0.5 x\n")
    with pytest.raises(UserError, match=r"re_rank\.depth: 0 is out of range"):
        planned(compose, [*overrides, "re_rank.depth=0"], ["re_rank"])
    with pytest.raises(UserError, match="is a cross-encoder, which makes no embeddings to index"):
        run(compose, [*settings, f"artifact.checkpoint={checkpoint}"], ["encode"])


def test_an_in_batch_loss_is_refused_for_a_cross_encoder(compose: Compose, settings: list[str]) -> None:
    """It never sees the documents of other queries."""
    with pytest.raises(UserError, match=r"loss=lce, or loss\.in_batch=false"):
        run(compose, [*settings, "model=mono", "loss=info_nce"], ["fit"])


def test_a_regularizer_is_refused_for_token_vectors(compose: Compose, settings: list[str]) -> None:
    """A regularizer needs one vector per text."""
    with pytest.raises(UserError, match="regularizer=none"):
        run(compose, [*settings, "model=colbert", "regularizer=flops"], ["fit"])


def test_a_regularizer_is_refused_for_a_cross_encoder(compose: Compose, settings: list[str]) -> None:
    """A cross-encoder has no embeddings; the setting is not silently ignored."""
    with pytest.raises(UserError, match=r"which a cross-encoder does not have; set regularizer=none"):
        run(compose, [*settings, "model=mono", "regularizer=flops"], ["fit"])


@pytest.mark.parametrize(("model", "index"), [("splade", "faiss_flat"), ("colbert", "sparse"), ("sbert", "maxsim")])
def test_an_engine_for_other_vectors_is_refused(compose: Compose, settings: list[str], model: str, index: str) -> None:
    """The error names the option that fits."""
    fitting = {"splade": "sparse", "colbert": "maxsim", "sbert": "faiss_flat"}
    with pytest.raises(UserError, match=f"index={fitting[model]}"):
        run(compose, [*settings, f"model={model}", "training=none", f"index={index}"], ["fit", "encode", "index"])


@pytest.mark.parametrize(
    ("model", "overrides"),
    [
        ("splade", ["adapter=lora"]),
        ("mono", ["adapter=lora"]),
        ("colbert", ["loss=rank_net", "negatives=bm25"]),
        ("splade_doc", ["model.query_encoding=static"]),
        ("repllama", ["adapter=lora", "adapter.target_modules=all-linear"]),
    ],
)
@pytest.mark.slow
def test_every_family_runs_all_stages(
    compose: Compose, settings: list[str], model: str, overrides: list[str], folders: dict[str, Path]
) -> None:
    """From fit to evaluate; the second time everything is already done; LoRA adapters equal the merged weights.

    The other families run in tests/test_recipes.py, and every loss with every family in tests/training.
    """
    if model == "repllama":
        overrides = [*overrides, "backbone=hugging_face", f"backbone.name_or_path={folders['decoder']}"]
    paths = whole(compose, [*settings, f"model={model}", *overrides])
    assert "evaluate" in paths
    again = run(compose, [*settings, f"model={model}", *overrides], NAMES)
    assert {outcome.status for outcome in again.values()} == {"already done"}
    if "adapter=lora" in overrides:
        assert (
            json.loads((paths["fit"] / "adapter" / "adapter_config.json").read_text())["r"]
            == compose("adapter=lora").adapter.r
        )
        merged, adapted = (load(place).score("make cups", TEXTS) for place in (paths["fit"], paths["fit"] / "adapter"))
        torch.testing.assert_close(adapted, merged, atol=1e-4, rtol=1e-4)


def test_bm25_cannot_re_rank(compose: Compose, settings: list[str]) -> None:
    """Re-ranking needs a checkpoint, which BM25 does not have."""
    with pytest.raises(UserError, match="stage=re_rank: bm25 has no checkpoint"):
        planned(compose, [*settings, "model=bm25", "re_rank=bm25"], ["re_rank"])


@pytest.mark.parametrize("model", ["sbert", "mono"])
def test_a_killed_re_ranking_resumes(
    compose: Compose, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Killed before its second batch of queries, it does not score the first one again, and writes the same run."""
    base = [*settings, f"model={model}", "training=none", "re_rank=bm25", "re_rank.depth=3", "machine.query_batch=1"]
    stages = ["fit", "re_rank"]
    whole = run(compose, [*base, f"paths.artifacts={tmp_path / 'whole'}"], stages)["re_rank"]
    score, calls = pipeline._scores, list[str]()

    def killed_at_the_second(scorer: Model, batch: list[Candidates], *more: Any) -> list[list[float]]:
        calls.append(batch[0][0].query_id)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(scorer, batch, *more)

    monkeypatch.setattr(pipeline, "_scores", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(compose, base, stages)
    resumed = run(compose, base, stages)["re_rank"]
    assert calls == ["q0", "q1", "q1"]
    files = [{path.name for path in Path(str(each.path)).iterdir()} for each in (whole, resumed)]
    assert files[0] == files[1] == {"manifest.json", "test.run", "test.run.ir_metadata.yml"}
    runs = [(Path(str(each.path)) / "test.run").read_bytes() for each in (whole, resumed)]
    assert runs[0] == runs[1]


def of_irds(tmp_path: Path) -> list[str]:
    """The overrides of an untrained cross-encoder on the collection that `registered` registers."""
    artifacts = f"paths.artifacts={tmp_path / 'artifacts'}"
    return ["dataset=irds", "dataset.id=irexp-toy", "training=none", "model=mono", "machine.progress=false", artifacts]


DOCS = "".join(f"d{number}\t{text}\n" for number, text in enumerate(TEXTS))

#: Of two queries, not in the order of the scores.
RUN_LINES = "q1 Q0 d3 2 0.5 x\nq1 Q0 d4 1 7.5 x\nq2 Q0 d5 1 2 x\nq1 Q0 d7 3 0.25 x\n"


def test_scoreddocs_are_re_ranked_as_the_same_run_from_a_file(compose: Compose, tmp_path: Path) -> None:
    """Documents, scores and measures are equal at the same depth; the names are not, since one names the dataset."""
    theirs = tmp_path / "theirs.run"
    theirs.write_text(RUN_LINES)
    queries = "q1\tmake cups\nq2\tlist songs\n"
    found = {}
    with registered(tmp_path, DOCS, queries=queries, qrels="q1 0 d3 1\n", scoreddocs=RUN_LINES):
        for name, candidates in (("shipped", "re_rank=scoreddocs"), ("file", f"re_rank.candidates={theirs}")):
            overrides = [*of_irds(tmp_path), candidates, "re_rank.depth=2"]
            paths = whole(compose, overrides)
            found[name] = list(read_run(paths["re_rank"] / "test.run")), paths
        (row,) = labels([f"measures/{found['shipped'][1]['evaluate'].name}"], Lineage(Store(tmp_path / "artifacts")))
        model = load(found["shipped"][1]["fit"])
        lines = pipeline.re_rank(model, IrdsScoredDocs("irexp-toy"), "irexp-toy", "irexp-toy", depth=2)
    assert row == "mono over scoreddocs before fine-tuning"
    assert found["shipped"][0] == found["file"][0] == lines
    assert [(line.query_id, line.doc_id) for line in lines if line.query_id == "q2"] == [("q2", "d5")]
    assert {line.doc_id for line in lines} == {"d3", "d4", "d5"}
    made = [json.loads((paths["re_rank"] / "manifest.json").read_text())["made_from"] for _, paths in found.values()]
    assert made[0]["re_rank.candidates"] == {"_target_": "IrdsScoredDocs", "dataset_id": "irexp-toy"}
    assert "artifact.candidates" not in made[0] and "re_rank.candidates" not in made[1]


@pytest.mark.parametrize(
    ("scoreddocs", "overrides", "message"),
    [
        (None, [], r"irexp-toy of ir_datasets has no scoreddocs; .*re_rank=bm25"),
        (RUN_LINES, ["dataset.test.dataset_id=irexp-tou"], r"ir_datasets has no collection 'irexp-tou'"),
        (RUN_LINES, ["dataset=aws_howto"], r"the queries are not of ir_datasets.*re_rank=bm25"),
        ("q1\td3\nq1\td4\n", ["re_rank.depth=1"], r"have no scores, so the top 1 .*re_rank\.depth=2"),
    ],
)
def test_candidates_that_a_collection_lacks_are_one_line(
    compose: Compose, tmp_path: Path, scoreddocs: str | None, overrides: list[str], message: str
) -> None:
    """It says what to use instead; what needs no download is found before the first stage."""
    with registered(tmp_path, DOCS, scoreddocs=scoreddocs), pytest.raises(UserError, match=message) as error:
        whole(compose, [*of_irds(tmp_path), "re_rank=scoreddocs", *overrides])
    assert "\n" not in str(error.value)
    made = {path.parts[-3] for path in tmp_path.rglob("manifest.json")}
    assert made == ({"checkpoint"} if "no scores" in message else set())


def test_candidates_without_a_component_are_refused(compose: Compose, tmp_path: Path) -> None:
    """Keys alone would say nothing about where the documents come from."""
    overrides = [*of_irds(tmp_path)[:3], "model=sbert", f"paths.artifacts={tmp_path}", "re_rank.candidates={path:x}"]
    with pytest.raises(UserError, match=r"re_rank\.candidates names no component"):
        planned(compose, overrides, ["re_rank"])
