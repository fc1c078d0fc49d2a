"""Re-ranking and mined negatives: runs of other experiments, by overrides, identifier and file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from irexp import load
from irexp.artifact.store import MissingArtifactError
from irexp.evaluation.run_file import read_run
from irexp.stage.chain import run_chain, run_stage
from irexp.stage.job import _make_candidates
from irexp.stage.report import label
from irexp.types import UserError
from tests.chains import TEXTS, Compose, write_collection


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


def whole(compose: Compose, overrides: list[str]) -> tuple[DictConfig, dict[str, Path]]:
    """Run what a job runs, its candidates first; the configuration, and where each artifact lies."""
    config = compose(*overrides)
    names = ["fit", "encode", "index", "search", "re_rank", "evaluate"]
    _make_candidates(config, names)
    return config, {o.stage: Path(o.path) for o in run_chain(config, names, overrides) if o.path}


@pytest.mark.parametrize("model", ["mono", "set_encoder", "colbert", "splade", "sbert"])
def test_any_model_re_ranks_what_bm25_finds(compose: Compose, settings: list[str], model: str) -> None:
    """The documents are those of the head of BM25's run, the scores are the model's."""
    overrides = [*settings, f"model={model}", "re_rank=bm25", "re_rank.depth=3"]
    config, paths = whole(compose, overrides)
    assert set(paths) == {"fit", "re_rank", "evaluate"}
    assert label(paths["evaluate"]).startswith(f"{model} over bm25 ")
    first_stage = Path(config.paths.artifacts) / config.artifact.candidates / "test.run"
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


def test_a_run_from_elsewhere_and_one_by_its_identifier(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """A TREC file with blanks, and what another experiment is called in the store."""
    theirs = tmp_path / "theirs.run"
    theirs.write_text("q0 Q0 d3 1 0.5 x\nq0 Q0 d4 2 7.5 x\nq1 Q0 d5 1 2 x\n")
    _, paths = whole(compose, [*settings, "model=mono", f"re_rank.candidates={theirs}", "re_rank.depth=1"])
    lines = [(line.query_id, line.doc_id) for line in read_run(paths["re_rank"] / "test.run")]
    assert lines == [("q0", "d4"), ("q1", "d5")]  # the head by score, whatever the order of the file
    identifier = f"run/{paths['re_rank'].name}"
    _, again = whole(compose, [*settings, "model=sbert", f"re_rank.candidates={identifier}"])
    assert {line.doc_id for line in read_run(again["re_rank"] / "test.run")} == {"d4", "d5"}


def test_identities_follow_what_is_re_ranked(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """Another first stage, another depth and another checkpoint are other runs; a search setting of no index is not."""
    base = compose(*settings, "model=mono").artifact
    assert base.candidates.startswith("run/bm25.toys-")
    assert base.negatives.startswith("run/bm25.toys-")
    assert base.negatives != base.candidates  # other queries
    for change in ('re_rank.candidates=["model=bm25","index.k1=2.0"]', "re_rank.depth=7", "seed=3"):
        assert compose(*settings, "model=mono", change).artifact.run != base.run
    assert compose(*settings, "model=mono", "re_rank.depth=7").artifact.checkpoint == base.checkpoint
    deeper = compose(*settings, "model=mono", 'negatives.candidates=["model=bm25","index.k1=2.0"]').artifact
    assert deeper.checkpoint != base.checkpoint
    assert deeper.candidates == base.candidates
    plain = compose(*settings, "model=sbert").artifact
    assert plain.candidates is None
    assert plain.negatives is None


def test_a_chain_of_re_rankers(compose: Compose, settings: list[str]) -> None:
    """What a re-ranked run is re-ranked from is made first, all the way down."""
    overrides = [*settings, "model=mono", 're_rank.candidates=["model=sbert","re_rank=bm25","training=none"]']
    config, paths = whole(compose, overrides)
    assert str(config.artifact.candidates).startswith("run/sbert.toys-")
    assert "re_rank" in paths


def test_what_is_missing_is_named_with_the_command(compose: Compose, settings: list[str]) -> None:
    """A run of a model that must be trained is not made on the way; a file that is not there is named."""
    config = compose(*settings, "model=mono", 're_rank.candidates=["model=sbert"]', "negatives=none")
    with pytest.raises(MissingArtifactError, match=r"make it with model=sbert stage=\[fit,index,search,re_rank,fuse\]"):
        run_stage(config, "re_rank", [], None)
    config = compose(*settings, "model=mono")
    with pytest.raises(MissingArtifactError, match=r"model=bm25 dataset.test='\$\{dataset.train.topics\}'"):
        run_stage(config, "fit", [], None)
    config = compose(*settings, "model=mono", "re_rank.candidates=nowhere.run")
    with pytest.raises(MissingArtifactError, match=r"re_rank.candidates=nowhere.run: there is nothing at"):
        run_stage(config, "re_rank", [], None)


def test_what_the_message_says_to_type_makes_the_negatives(compose: Compose, settings: list[str]) -> None:
    """The identity of the typed command is the one that was asked for."""
    wanted = compose(*settings, "model=mono").artifact.negatives
    typed = compose(*settings, "model=bm25", "dataset.test=${dataset.train.topics}").artifact.run
    assert typed == wanted


def test_faults_of_re_ranking(compose: Compose, settings: list[str], tmp_path: Path) -> None:
    """A cross-encoder makes no index; a run of another collection; no depth; unknown documents."""
    theirs = tmp_path / "theirs.run"
    theirs.write_text("q0 Q0 nowhere 1 0.5 x\n")
    base = [*settings, "model=mono", "training.steps=0"]
    config = compose(*base, f"re_rank.candidates={theirs}")
    run_stage(config, "fit", [], None)
    with pytest.raises(UserError, match="1 documents of the run are not in the collection, such as 'nowhere'"):
        run_stage(config, "re_rank", [], None)
    theirs.write_text("other Q0 d1 1 0.5 x\n")
    with pytest.raises(UserError, match="answers none of the queries"):
        run_stage(compose(*base, f"re_rank.candidates={theirs}"), "re_rank", [], None)
    theirs.write_text("q0 Q0 d1 1 0.5 x\n")
    with pytest.raises(UserError, match=r"re_rank\.depth=0"):
        run_stage(compose(*base, f"re_rank.candidates={theirs}", "re_rank.depth=0"), "re_rank", [], None)
    checkpoint = config.artifact.checkpoint
    with pytest.raises(UserError, match="is a cross-encoder, which makes no embeddings to index"):
        run_stage(compose(*settings, f"artifact.checkpoint={checkpoint}"), "encode", [], None)


def test_an_in_batch_loss_is_refused_for_a_cross_encoder(compose: Compose, settings: list[str]) -> None:
    """It never sees the documents of other queries."""
    config = compose(*settings, "model=mono", "loss=info_nce")
    _make_candidates(config, ["fit"])
    with pytest.raises(UserError, match=r"loss=lce, or loss\.in_batch=false"):
        run_stage(config, "fit", [], None)


def test_a_regularizer_is_refused_for_token_vectors(compose: Compose, settings: list[str]) -> None:
    """It has no vector to press down."""
    with pytest.raises(UserError, match="regularizer=none"):
        run_stage(compose(*settings, "model=colbert", "regularizer=flops"), "fit", [], None)


def test_a_regularizer_is_refused_for_a_cross_encoder(compose: Compose, settings: list[str]) -> None:
    """It has no embedding at all; the setting is not passed over."""
    config = compose(*settings, "model=mono", "regularizer=flops", "negatives=none")
    with pytest.raises(UserError, match=r"a cross-encoder makes none: regularizer=none"):
        run_stage(config, "fit", [], None)


@pytest.mark.parametrize(("model", "index"), [("splade", "faiss_flat"), ("colbert", "sparse"), ("sbert", "maxsim")])
def test_an_engine_for_other_vectors_is_refused(compose: Compose, settings: list[str], model: str, index: str) -> None:
    """With the option that fits."""
    fitting = {"splade": "sparse", "colbert": "maxsim", "sbert": "faiss_flat"}
    config = compose(*settings, f"model={model}", "training=none", f"index={index}")
    with pytest.raises(UserError, match=f"index={fitting[model]}"):
        list(run_chain(config, ["fit", "encode", "index"], []))


@pytest.mark.parametrize(
    ("model", "overrides"),
    [
        ("splade", ["adapter=lora"]),
        ("mono", ["adapter=lora"]),
        ("dpr", []),
        ("sbert", ["loss=rank_net", "negatives=bm25"]),
        ("colbert", ["loss=kl_divergence", "negatives=bm25"]),
        ("unicoil", ["regularizer=l1"]),
        ("coil", []),
        ("xtr", []),
        ("mvr", ["loss=margin_mse", "negatives=bm25"]),
        ("splade_doc", ["model.query_encoding=static"]),
        ("sbert", ["model.matryoshka_dims=[16,64]"]),
        ("repllama", ["adapter=lora", "adapter.target_modules=all-linear"]),
    ],
)
def test_every_family_goes_all_the_way(
    compose: Compose, settings: list[str], model: str, overrides: list[str], folders: dict[str, Path]
) -> None:
    """Fit, encode, index, search or re-rank, evaluate; and the second time nothing is to be done."""
    if model == "repllama":
        overrides = [*overrides, "backbone=hugging_face", f"backbone.name_or_path={folders['decoder']}"]
    config, paths = whole(compose, [*settings, f"model={model}", *overrides])
    assert "evaluate" in paths
    names = ["fit", "encode", "index", "search", "re_rank", "evaluate"]
    statuses = {outcome.status.partition(":")[0] for outcome in run_chain(config, names, [])}
    assert statuses - {"nothing to do"} == {"already done"}
    if "adapter=lora" in overrides:
        assert json.loads((paths["fit"] / "adapter" / "adapter_config.json").read_text())["r"] == config.adapter.r
        merged, adapted = (load(place).score("make cups", TEXTS) for place in (paths["fit"], paths["fit"] / "adapter"))
        torch.testing.assert_close(adapted, merged, atol=1e-4, rtol=1e-4)


def test_what_has_no_model_re_ranks_nothing(compose: Compose, settings: list[str]) -> None:
    """BM25 over BM25 is refused by name."""
    with pytest.raises(UserError, match="bm25 has no checkpoint and re-ranks nothing"):
        list(run_chain(compose(*settings, "model=bm25", "re_rank=bm25"), ["re_rank"], []))
