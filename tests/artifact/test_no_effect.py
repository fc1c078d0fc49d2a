"""What would have no effect is an error, or a warning, before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.types import UserError
from tests.artifact.test_plan import _TRIPLES as TRIPLES
from tests.artifact.test_plan import plan_of
from tests.chains import Compose


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (
            ["model=fusion", "fuse.weights=[0.7,0.3]"],
            r"fuse\.weights is used by fuse\.method=wsum alone",
        ),
        (["schedule.warmup=500"], r"schedule\.warmup=500 steps are not over when training\.steps=500 are"),
        (["model=splade", "regularizer.ramp=50000"], r"regularizer\.ramp=50000 steps are not over"),
        (["training.learning_rate=0"], r"training\.learning_rate=0.* trains nothing"),
        (["training.validate_every=null", "training.patience=3"], r"training\.patience counts validations"),
        (["training.validate_every=null", "validation=nano_beir"], r"training\.validate_every=null never does"),
        (["training=none", "training.epochs=3"], r"training\.epochs=3: nothing is trained"),
        (["negatives.depth=50"], r"negatives\.depth=50: there is no run"),
        (
            ["negatives=bm25", "negatives.depth=200"],
            r"negatives\.depth=200: the run .* add search\.depth=200",
        ),
        (["negatives.sampler=top"], r"negatives\.sampler=top draws negatives\.count documents, which is not set"),
        (["training.epochs=1"], r"training\.steps=500 and training\.epochs=1: set one of them"),
        (["loss=lce"], r"LCE compares a query's own documents, and no training example has a negative of its own"),
        (["loss=[info_nce,kl_divergence]"], r"KLDivergence compares a query's own documents"),
        (["training.batch_size=1"], r"training\.batch_size=1: a batch of one example has no in-batch negatives"),
        (
            ["training.batch_size=4", "training.accumulate_batches=4"],
            r"batch_size=4 / training\.accumulate_batches=4: a batch of one example has no",
        ),
        (["training.quantization=8bit", "adapter=lora"], r"training\.quantization: '8bit' is not a choice"),
    ],
)
def test_what_would_have_no_effect_is_a_fault(compose: Compose, overrides: list[str], fault: str) -> None:
    """Each was accepted, and ignored or trained nothing."""
    with pytest.raises(UserError, match=fault):
        plan_of(compose, *overrides, stages=["fuse"] if "model=fusion" in overrides else ["fit"])


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss=lce", "negatives=bm25", "training.batch_size=1"],
        ["loss=lce", "negatives.count=5", *TRIPLES],
        ["loss=lce", "negatives.count=5", "training=none"],
        ["loss=info_nce", "loss.in_batch=false", "negatives=bm25"],
    ],
)
def test_a_loss_of_own_documents_is_allowed_where_examples_have_negatives(
    compose: Compose, overrides: list[str]
) -> None:
    """From a run, or from a file, which only its content tells; without training nothing is compared."""
    assert plan_of(compose, *overrides, stages=["fit"]).own[-1].name.startswith("checkpoint/")


def test_a_run_is_not_read_further_down_than_it_goes(compose: Compose) -> None:
    """Re-ranking 200 of 100 documents would re-rank 100; a cascade's second stage reads what the first one kept."""
    mono = ["model=mono", "re_rank=bm25"]
    deep = r"re_rank\.depth=200: the run of re_rank\.candidates holds 100 documents per query; add search\.depth=200"
    with pytest.raises(UserError, match=deep):
        plan_of(compose, *mono, "re_rank.depth=200", stages=["re_rank"])
    plan_of(compose, *mono, "re_rank.depth=200", "search.depth=200", stages=["re_rank"])
    plan_of(
        compose, *mono, "re_rank.depth=200", 're_rank.candidates=["model=bm25","search.depth=200"]', stages=["re_rank"]
    )
    cascade = [
        "model=mono",
        "re_rank=colbert_over_bm25",
        're_rank.candidates=["model=colbert","re_rank=bm25","re_rank.depth=10"]',
    ]
    with pytest.raises(UserError, match=r"re_rank\.depth=20: .* holds 10 documents per query; add re_rank\.depth=20"):
        plan_of(compose, *cascade, stages=["re_rank"])


def test_a_measure_beyond_the_depth_of_its_run_is_named(
    compose: Compose, caplog: pytest.LogCaptureFixture, collection: Path
) -> None:
    """R@1000 of a run of 100 documents is R@100; with a depth of 1,000 nothing is said."""
    measures = "evaluation.measures=['nDCG@10','R@1000']"
    with caplog.at_level("WARNING"):
        plan_of(compose, "model=bm25", measures, stages=["evaluate"])
    (text,) = [record.getMessage() for record in caplog.records]
    assert text == "R@1000 of bm25 counts 100 documents per query, since the run holds no more (search.depth)"
    caplog.clear()
    with caplog.at_level("WARNING"):
        plan_of(compose, "model=bm25", measures, "search=deep", stages=["evaluate"])
    assert not caplog.records
    local = ["dataset=local", f"dataset.path={collection}", "dataset.test.remove_query=true"]
    own, kept = [*local, "evaluation.measures=['R@100']"], "search.remove_query=true"
    with caplog.at_level("WARNING"):
        plan_of(compose, "model=bm25", *own, kept, stages=["evaluate"])
        assert not caplog.records
        plan_of(compose, "model=bm25", *own, stages=["evaluate"])
    (text,) = [record.getMessage() for record in caplog.records]
    assert text.startswith("R@100 of bm25 counts 99 documents per query, since the run holds 100 (search.depth), and")


def test_typed_settings_that_no_fused_run_has_are_named(compose: Compose, caplog: pytest.LogCaptureFixture) -> None:
    """How models are trained is not inherited by the experiments of fuse.runs; the search is."""
    with caplog.at_level("WARNING"):
        plan_of(compose, "model=fusion", "training.steps=7", "loss=margin_mse", "search.depth=50", stages=["fuse"])
    texts = [record.getMessage() for record in caplog.records]
    assert [text.partition(": ignored, since the runs that are fused")[0] for text in texts] == [
        "training.steps=7",
        "loss=margin_mse",
    ]


@pytest.mark.parametrize(
    "typed",
    [
        ["model=mono", "re_rank.candidates={run}", "re_rank.depth=10", "artifact.checkpoint=theirs/model"],
        ["model=mono", "re_rank=scoreddocs", "re_rank.depth=10", "artifact.checkpoint=theirs/model"],
        ["model=fusion", "fuse.runs=[{run},{run}]"],
        ["artifact.run={run}"],
    ],
    ids=["re_rank", "shipped", "fuse", "evaluate"],
)
def test_exclusions_that_no_search_applies_are_named(
    typed: list[str], compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Documents of a run file stay in it: a file of them is refused, the query's own is warned of."""
    (tmp_path / "their.run").write_text("q1 Q0 d1 1 1.0 x\n")
    typed = [each.format(run=tmp_path / "their.run") for each in typed]
    with pytest.raises(UserError, match=r"search\.exclude_path=x\.txt: nothing is searched"):
        plan_of(compose, *typed, "search.exclude_path=x.txt", stages=["evaluate"])
    with caplog.at_level("WARNING"):
        plan_of(compose, *typed, "search.remove_query=true", stages=["evaluate"])
    assert any("search.remove_query=True: nothing is searched" in record.getMessage() for record in caplog.records)


def test_a_typed_value_that_every_column_replaces_is_named(compose: Compose, caplog: pytest.LogCaptureFixture) -> None:
    """Each column's own collection has its own lengths; a value that one row keeps is not ignored."""
    columns = "columns={A:['dataset=aws_howto'],B:['dataset=aws_howto','seed=1']}"
    with caplog.at_level("WARNING"):
        plan_of(compose, "model=bm25", "dataset.query_length=7", "index.k1=2", columns, stages=["search"])
    (text,) = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert text.startswith("dataset.query_length=7: ignored, since the table's rows or columns choose dataset=…")


def test_a_backbone_that_another_experiments_model_does_not_have_is_named(
    compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    """A teacher or the model of a first stage has its own; with the override in its own list nothing is said."""
    typed = ["training.steps=3", "negatives=bm25"]
    with caplog.at_level("WARNING"):
        plan_of(compose, *typed, 'negatives.candidates=["model=splade"]', stages=["fit"])
    (text,) = [record.getMessage() for record in caplog.records]
    assert text.startswith("training.steps=3: not of checkpoint/splade.aws_howto-") and "negatives.candidates" in text
    caplog.clear()
    with caplog.at_level("WARNING"):
        plan_of(compose, *typed, 'negatives.candidates=["model=splade","training.steps=4"]', stages=["fit"])
        plan_of(compose, "training.steps=3", "rows={a:['model=splade'],b:['model=sbert']}", stages=["fit"])
    assert not caplog.records


@pytest.mark.parametrize(
    ("typed", "ignored"),
    [
        ("fuse.method=sum re_rank.depth=30 score.depth=7", "fuse.method=sum, re_rank.depth=30, score.depth=7"),
        ("model=bm25 loss=lce training.steps=7", "loss=lce, training.steps=7"),
        ("training=none training.steps=0 loss=margin_mse", "loss=margin_mse"),
        ("training.steps=7 loss=margin_mse negatives=bm25 teacher=mono negatives.count=2", None),
        ("training=none training.steps=0 negatives=none", None),
        ("training.steps=7 rows={a:['model=bm25'],b:['model=sbert']}", None),
    ],
)
def test_typed_settings_that_no_stage_of_the_experiment_uses_are_named(
    compose: Compose, caplog: pytest.LogCaptureFixture, typed: str, ignored: str | None
) -> None:
    """In one line; training.steps with stage=search is used, since it names the checkpoint."""
    with caplog.at_level("WARNING"):
        plan_of(compose, *typed.split(), stages=["search"])
    found = [record.getMessage() for record in caplog.records if "no stage of this experiment" in record.getMessage()]
    assert found == ([f"{ignored}: ignored, since no stage of this experiment uses it"] if ignored else [])


@pytest.mark.parametrize(
    ("method", "ignored", "used"),
    [
        ("rrf", ["norm=zmuv", "norm=none", "measure=AP", "step=0.5"], ["k=10", "depth=9"]),
        ("sum", ["k=10", "measure=AP", "step=0.5"], ["norm=zmuv", "depth=9"]),
        ("mnz", ["k=10", "measure=AP", "step=0.5"], ["norm=zmuv", "depth=9"]),
        ("wsum", ["k=10"], ["norm=zmuv", "measure=AP", "step=0.5", "weights=[0.5,0.5]"]),
        ("wsum fuse.weights=[0.5,0.5]", ["k=10", "measure=AP", "step=0.5"], ["norm=zmuv", "weights=[0.4,0.6]"]),
    ],
)
def test_a_setting_that_a_method_of_fusion_ignores_makes_no_other_run(
    compose: Compose, method: str, ignored: list[str], used: list[str]
) -> None:
    """A sweep over norms of rrf, which adds ranks, would otherwise be as many equal rows; the others are other runs."""

    def name(*settings: str) -> str:
        typed = [f"fuse.method={method}", *(f"fuse.{setting}" for setting in settings)]
        return plan_of(compose, "model=fusion", *" ".join(typed).split(), stages=["fuse"]).own[0].name

    assert {name(setting) for setting in ignored} == {name()}
    assert len({name(), *map(name, used)}) == 1 + len(used)
