"""A file of a collection that does not exist is found before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.artifact.store import Store
from irexp.stage.execute import execute
from irexp.stage.job import _preview
from irexp.types import UserError
from tests.chains import STAGES, Compose, planned, run, settings

#: A short training without validation.
TRAINED = ["training=default", "training.steps=1", "training.batch_size=2", "training.validate_every=null"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training=default"], r"dataset\.dev\.qrels_path: .*dev\.tsv does not exist.* training\.validate_every=null"),
        (TRAINED, r"dataset\.train\.topics\.qrels_path: .*train\.tsv does not exist.* use training=none"),
        (["dataset.test.qrels_path=nowhere"], r"dataset\.test\.qrels_path: .*nowhere does not exist"),
        (["dataset.documents.path=nowhere"], r"dataset\.documents\.path: .*nowhere does not exist"),
        (["search.exclude_path=nowhere"], r"search\.exclude_path: .*nowhere does not exist"),
    ],
)
def test_a_missing_file_is_found_before_the_first_stage(
    compose: Compose, tmp_path: Path, collection: Path, changes: list[str], message: str
) -> None:
    """The error names the setting and the file, and no artifact was made."""
    with pytest.raises(UserError, match=message):
        run(compose, settings(tmp_path, collection, *changes), STAGES)
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(
    ("qrels", "measures", "message"),
    [
        ("q0\td1\t0.5\n", "[RR@10]", r"test\.tsv:1: the relevance '0\.5' is not a whole number"),
        ("elsewhere\td1\t1\n", "[RR@10]", r"dataset\.test: no query of .*queries\.jsonl is judged in .*test\.tsv"),
        (None, "['RR(rel=2)@10']", r"RR\(rel=2\)@10 counts grades from 2, but the largest in the qrels is 1"),
    ],
)
def test_judgements_that_cannot_be_used_are_found_before_the_first_stage(
    compose: Compose, tmp_path: Path, collection: Path, qrels: str | None, measures: str, message: str
) -> None:
    """Else they would be after training, encoding, indexing and search."""
    if qrels is not None:
        (collection / "qrels" / "test.tsv").write_text(qrels)
    with pytest.raises(UserError, match=message):
        run(compose, settings(tmp_path, collection, f"evaluation.measures={measures}"), STAGES)
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("qrels/train.tsv", "", r"train\.tsv has no judgements"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\n", r"train\.tsv has no judgements"),
        ("qrels/train.tsv", "d0\tzz\t1\n", r"no training example has its relevant document in the collection.* 'zz'"),
        ("qrels/train.tsv", "nobody\td0\t1\nd0\td0\t0\n", r"there is no training example: no query of .*queries"),
        ("corpus.jsonl", "", r"corpus\.jsonl has no documents"),
    ],
)
@pytest.mark.parametrize("is_dry", [False, True])
def test_a_training_that_has_nothing_to_learn_from_is_found_before_the_baselines(
    compose: Compose, tmp_path: Path, collection: Path, file: str, text: str, message: str, is_dry: bool
) -> None:
    """Else BM25 and the untrained model would be indexed, searched and evaluated first; a dry run finds it, too."""
    (collection / "qrels" / "train.tsv").write_text("d0\td0\t1\n")
    (collection / file).write_text(text)
    overrides = settings(tmp_path, collection, *TRAINED)
    plan = planned(compose, overrides, [*STAGES, "report"])
    store = Store(plan.experiment.root)
    with pytest.raises(UserError, match=message):
        _preview(plan, store, tmp_path) if is_dry else list(execute(plan, store, tmp_path))
    assert not (tmp_path / "artifacts").exists()


def test_a_dry_run_of_what_is_done_reads_no_file(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """As the command itself does."""
    base = settings(tmp_path, collection, "model=bm25")
    run(compose, base, ["index"])
    plan = planned(compose, base, ["index"])
    (collection / "corpus.jsonl").unlink()
    _preview(plan, Store(plan.experiment.root), tmp_path)


@pytest.mark.parametrize("stage", ["find_lr", "overfit"])
def test_a_look_at_a_trainings_losses_needs_no_development_queries(
    compose: Compose, tmp_path: Path, collection: Path, stage: str
) -> None:
    """It validates nothing; the training queries are needed."""
    with pytest.raises(UserError, match=r"dataset\.train\.topics\.qrels_path: .*train\.tsv") as error:
        run(compose, settings(tmp_path, collection, "training=default", f"stage={stage}"), [stage])
    assert "dataset.dev" not in str(error.value)


def test_files_that_no_stage_reads_may_be_missing(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Without training no file of it is read; and from the second time on, no file at all."""
    base = settings(tmp_path, collection)
    run(compose, base)  # there is neither train.tsv nor dev.tsv
    assert {outcome.status for outcome in run(compose, base).values()} == {"already done"}
    outcomes = run(compose, [*base, "index=torch_dense"], ["index"])
    assert outcomes["index"].status == "made"
