"""The chain of stages on a small collection: artifacts are made, found, refused and resumed."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irexp import load
from irexp.artifact.experiment import baseline_overrides, changed_overrides, composed
from irexp.artifact.manifest import read_manifest
from irexp.artifact.store import MissingArtifactError
from irexp.evaluation.run_file import read_run
from irexp.index.shards import EncodedDocuments
from irexp.stage.execute import Outcome, _reporting_full_disk
from irexp.stage.verify import verify
from irexp.types import UserError
from tests.chains import TEXTS, Compose, name_of, planned, run, settings

ROOT = Path(__file__).parents[2]


def test_stages_make_their_artifacts_once(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """The second run makes nothing and gives the same measures; each artifact records how it was made."""
    first = run(compose, settings(tmp_path, collection))
    second = run(compose, settings(tmp_path, collection))
    assert {outcome.status for outcome in first.values()} == {"made"}
    assert {outcome.status for outcome in second.values()} == {"already done"}
    assert {s: (o.path, o.measures) for s, o in first.items()} == {s: (o.path, o.measures) for s, o in second.items()}
    for outcome in first.values():
        assert outcome.path is not None
        provenance = read_manifest(Path(outcome.path))["provenance"]
        assert provenance["configuration"]["seed"] == 42
        assert provenance["overrides"][0] == "training=none"
        assert provenance["versions"]["torch"] == importlib.metadata.version("torch")
        assert provenance["seconds"] >= 0
        assert len(provenance["git"]["commit"]) == 40
        assert provenance["hardware"]["cores"] == os.cpu_count()


def test_search_finds_the_inner_products_of_the_embeddings(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Scores are those of the model, in descending order; a depth beyond the collection finds all documents."""
    outcomes = run(compose, settings(tmp_path, collection, "search.depth=50"))
    assert outcomes["fit"].path and outcomes["search"].path
    encoder = load(outcomes["fit"].path)
    scores = encoder.score("make cups", TEXTS).tolist()
    found = scores_of(outcomes)
    assert found == pytest.approx({f"d{number}": score for number, score in enumerate(scores)}, abs=1e-5)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def scores_of(outcomes: dict[str, Outcome]) -> dict[str, float]:
    """The documents that were found for the query d0, in rank order, with their scores."""
    lines = read_run(Path(str(outcomes["search"].path)) / "test.run")
    return {line.doc_id: line.score for line in lines if line.query_id == "d0"}


def test_missing_relevant_documents_and_queries_without_a_hit_are_logged(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log counts both, so that a low measure can be explained."""
    overrides = settings(tmp_path, collection, "model=bm25")
    outcomes = run(compose, overrides)
    assert "1 of 3 relevant documents are not in the index, such as 'gone'" in caplog.text
    assert "1 of 2 queries have no hit" in caplog.text
    assert outcomes["search"].measures == {"queries": 2.0, "queries_without_hit": 1.0}
    assert set(outcomes) == {"index", "search", "evaluate"}
    assert planned(compose, overrides).skipped["fit"] == "bm25 has no checkpoint"


def test_remove_query_drops_the_document_with_the_query_id(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """The run still has as many documents as the depth."""
    overrides = settings(tmp_path, collection, "search.depth=3", "search.remove_query=true")
    outcomes = run(compose, overrides)
    lines = read_run(Path(str(outcomes["search"].path)) / "test.run")
    found = [line.doc_id for line in lines if line.query_id == "d0"]
    assert len(found) == 3
    assert "d0" not in found


def test_a_changed_collection_is_encoded_again(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """With one more document everything after the checkpoint is made again; nothing stale is used."""
    before = run(compose, settings(tmp_path, collection))
    with (collection / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "gone", "text": "zzz"}\n')
    after = run(compose, settings(tmp_path, collection))
    assert [outcome.status for outcome in after.values()] == ["already done"] + ["made"] * 4
    assert after["evaluate"].measures != before["evaluate"].measures


def test_a_missing_artifact_names_the_stage_and_the_difference(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Search without a checkpoint never trains; the error names the setting in which the nearest one differs."""
    run(compose, settings(tmp_path, collection), ["fit"])
    with pytest.raises(MissingArtifactError, match=r"there is no checkpoint/.*stage=fit(.|\n)*seed: 42 there, 7 here"):
        run(compose, settings(tmp_path, collection, "seed=7"), ["search"])
    with pytest.raises(MissingArtifactError, match=r"there is no encoding/.*stage=encode"):
        run(compose, settings(tmp_path, collection), ["search"])


def test_a_given_checkpoint_replaces_fit(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder takes the checkpoint's place, says which settings are ignored, and gives the same embeddings."""
    made = run(compose, settings(tmp_path, collection))
    given = tmp_path / "theirs"
    os.rename(str(made["fit"].path), given)
    (given / "manifest.json").unlink()
    overrides = settings(tmp_path, collection, f"artifact.checkpoint={given}", "model.pooling=cls")
    outcomes = run(compose, overrides)
    assert "fit" not in outcomes
    assert "model.pooling=cls: ignored" in caplog.text
    vectors = [next(EncodedDocuments(Path(str(o["encode"].path))).batches()) for o in (made, outcomes)]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    with pytest.raises(UserError, match="there is nothing at"):
        run(compose, settings(tmp_path, collection, "artifact.checkpoint=./nowhere"), ["search"])


def test_a_given_run_file_is_evaluated(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """`artifact.run=<file>` needs no model, checkpoint or index."""
    file = tmp_path / "their.run"
    file.write_text("d0 Q0 d3 1 2.5 theirs\nd0 Q0 d1 2 1.5 theirs\n")
    outcomes = run(compose, settings(tmp_path, collection, f"artifact.run={file}"), ["evaluate"])
    assert outcomes["evaluate"].measures["RR@10"] == pytest.approx(0.5)  # over both queries of the judgements


KILLED = """
import sys
from pathlib import Path
from hydra import compose, initialize_config_dir
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from irexp.pipeline import encode
from irexp.artifact.experiment import Experiment
from irexp.artifact.plan import make_plan
from irexp.artifact.store import Store
from irexp.stage.execute import execute
import os
import re

write = encode.write_shard
def dies(folder, number, *arguments, **options):
    if number == 2:
        os.kill(os.getpid(), 9)
    write(folder, number, *arguments, **options)
encode.write_shard = dies
register_resolvers(); register_schema()
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    config = compose("config", overrides=sys.argv[2:])
plan = make_plan(Experiment(tuple(sys.argv[2:]), config), ["fit", "encode"])
list(execute(plan, Store(plan.experiment.root), plan.experiment.root))
"""


def test_a_killed_encoding_resumes_after_its_last_complete_shard(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed after two shards of four documents, it ends with the vectors of an uninterrupted encoding."""
    whole = run(compose, settings(tmp_path / "whole", collection))
    overrides = settings(tmp_path, collection, "machine.shard_size=4")
    done = subprocess.run([sys.executable, "-c", KILLED, str(ROOT / "conf"), *overrides], check=False)
    assert done.returncode == -9
    caplog.set_level("INFO")
    outcomes = run(compose, overrides)
    assert "resuming after 8 documents" in caplog.text
    assert outcomes["encode"].status == "made"
    vectors = [np.concatenate(list(EncodedDocuments(Path(str(o["encode"].path))).batches())) for o in (whole, outcomes)]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)  # of length one; in batches of other sizes
    assert scores_of(outcomes) == pytest.approx(scores_of(whole), abs=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.depth=0"], r"search\.depth: 0 is out of range"),
        (["machine.accelerator=gpu"], "torch sees no GPU here"),
        (["dataset.test.qrels_path=nowhere"], "nowhere does not exist"),
        (["model.query_length=100000"], r"model\.query_length=100000: the backbone reads at most 512"),
    ],
)
def test_an_error_names_the_wrong_setting(
    compose: Compose, tmp_path: Path, collection: Path, overrides: list[str], message: str
) -> None:
    """The user learns which setting to change, without a traceback of a library."""
    with pytest.raises(UserError, match=message):
        run(compose, settings(tmp_path, collection, *overrides))


@pytest.mark.parametrize(
    ("typed", "changes", "expected"),
    [
        (["seed=1", "training.steps=4"], ["training=none"], ["seed=1", "training=none"]),
        (
            ["model=sbert", "index.x=1", "dataset=local", "training.steps=4", "backbone=minilm"],
            ["model=bm25"],
            ["dataset=local", "training.steps=4", "backbone=minilm", "model=bm25"],
        ),
        (["seed=1"], ["index.k1=0.9"], ["seed=1", "index.k1=0.9"]),
    ],
)
def test_a_baseline_keeps_the_overrides_that_fit_its_model(
    typed: list[str], changes: list[str], expected: list[Any]
) -> None:
    """A baseline with another model drops the settings of the experiment's model, but not how models are trained."""
    assert baseline_overrides(typed, changes) == expected


@pytest.mark.parametrize("changes", [["model=sbert"], ["model=splade"], ["model=sbert", "training=short"]])
def test_a_baseline_with_another_model_is_trained_like_a_row_by_name(changes: list[str]) -> None:
    """Otherwise a table would compare 7 steps of one model with 500 of another, or two backbones, without a word."""
    typed = ["model=colbert", "index=plaid", "backbone=minilm", "training.steps=7", "schedule=cosine", "adapter=lora"]
    baseline = composed(baseline_overrides(typed, changes))
    row = composed(changed_overrides(typed, ["index=faiss_flat", *changes]))
    trained = ("backbone", "training", "optimizer", "schedule", "adapter", "seed", "encoding", "machine")
    assert {key: baseline.values[key] for key in trained} == {key: row.values[key] for key in trained}
    assert baseline.values["training"]["steps"] == (150 if "training=short" in changes else 7)
    assert baseline.options["backbone"] == "minilm" and baseline.options["index"] != "plaid"


def test_a_baseline_with_another_model_has_the_natural_options_of_that_model() -> None:
    """What an option of conf/model chooses, a baseline does not take over; except for the backbone, which all share."""
    texts = [path.read_text(encoding="utf8") for path in (ROOT / "conf" / "model").glob("*.yaml")]
    chosen = {group for text in texts for group in re.findall(r"override /(\w+)@", text)} - {"backbone"}
    assert {"index", "loss", "regularizer", "negatives", "re_rank", "fuse"} <= chosen
    for group in chosen:
        assert baseline_overrides([f"{group}=x"], ["model=sbert"]) == ["model=sbert"]


def test_a_row_by_name_keeps_what_was_typed_for_all(compose: Compose) -> None:
    """The rows of a recipe are equals: training.steps and backbone are for each, unless a row sets the group itself."""
    typed = ["experiment=sbert_splade_colbert", "backbone=minilm", "training.steps=7"]
    plan = planned(compose, typed, ["fit"])
    fits = [step.experiment.values for step in plan.goals]
    found = [(values["model"]["name"], values["training"]["steps"]) for values in fits]
    assert found == [(name, steps) for name in ("sbert", "splade", "colbert") for steps in (0, 7)]
    assert all(values["backbone"]["_target_"].endswith("PackagedBackbone") for values in fits)


def test_a_full_disk_is_named_and_the_same_command_resumes(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """The vectors are written to a device that is always full, until it is removed."""
    base = settings(tmp_path, collection, "index=torch_dense")
    run(compose, base, ["fit", "encode"])
    name = name_of(planned(compose, base), "index")
    partial = tmp_path / "artifacts" / name.replace("index/", "index/.partial-")
    partial.mkdir(parents=True)
    (partial / "vectors.bin").symlink_to("/dev/full")
    with pytest.raises(UserError, match="no space is left on the disk of"):
        run(compose, base, ["index"])
    (partial / "vectors.bin").unlink()
    assert run(compose, base, ["index"])["index"].status == "made"


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EFBIG])
def test_an_exceeded_quota_is_a_full_disk(number: int, tmp_path: Path) -> None:
    """As users of a cluster know it; another error stays what it is."""
    with pytest.raises(UserError, match=r"no space is left .*, or in your quota"), _reporting_full_disk(tmp_path):
        raise OSError(number, os.strerror(number))
    with pytest.raises(OSError, match="Permission denied"), _reporting_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_verify_finds_a_changed_byte(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """One changed byte in any artifact is an error that names the file."""
    base = settings(tmp_path, collection)
    made = run(compose, base)
    config = compose(*base)
    verify(tmp_path, artifacts=config.paths.artifacts, machine=config.machine)
    (vectors,) = Path(str(made["encode"].path)).glob("*.vectors.npy")
    content = bytearray(vectors.read_bytes())
    content[-1] ^= 1
    vectors.write_bytes(content)
    with pytest.raises(UserError, match=rf"{vectors.name} has changed since"):
        verify(tmp_path, artifacts=config.paths.artifacts, machine=config.machine)
