"""Training on each kind of training set, through the stage, for two steps."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from irexp.types import UserError
from tests.text_files import write
from tests.trainings import TOYS, Compose, fit, write_toys

SHORT = (
    *("training.steps=2", "training.batch_size=4", "training.validate_every=null"),
    *("dataset.query_length=8", "dataset.document_length=16"),
)

TOYS_FOLDER = (
    "dataset.documents.path={toys}/corpus.jsonl dataset.test.queries_path={toys}/queries.jsonl "
    "dataset.train.topics.queries_path={toys}/queries.jsonl"
)

#: The overrides of each kind of training set, with the files that `files` writes.
KINDS = {
    "texts": "dataset=texts dataset.train.path={folder}/texts.jsonl",
    "prompted texts": "dataset=texts dataset.train.path={folder}/prompted.jsonl loss=margin_mse",
    "prompted texts, in pairs": "dataset=texts dataset.train.path={folder}/prompted.jsonl model=mono loss=margin_mse",
    "run by rank": f"dataset=run {TOYS_FOLDER} dataset.train.run.path={{folder}}/a.run model=mono loss=rank_net",
    "run, drawn": f"dataset=run {TOYS_FOLDER} dataset.train.run.path={{folder}}/a.run loss=rank_net negatives.count=2 "
    "negatives.sampler=log_random negatives.skip=1",
    "run by score, in batch": f"dataset=run {TOYS_FOLDER} dataset.train.run.path={{folder}}/a.run model.similarity=dot "
    "dataset.train.targets=score loss=[kl_divergence,margin_mse,score_based_in_batch] negatives.count=2",
    "run by judgements": f"dataset=run {TOYS_FOLDER} dataset.train.run.path={{folder}}/a.run loss=lce model=mono "
    "dataset.train.targets=relevance dataset.train.topics.qrels_path={toys}/qrels/dev.tsv "
    "negatives.sampler=single_relevant negatives.count=2",
    "hard negatives": f"dataset=hard_negatives {TOYS_FOLDER} dataset.train.path={{folder}}/mined.jsonl "
    "dataset.train.scores_path={folder}/scores.jsonl loss=kl_divergence",
    "mixture": "dataset=mixture dataset.documents.path={toys}/corpus.jsonl dataset.path={toys} "
    "dataset.test.queries_path={toys}/queries.jsonl dataset.train.sets.texts.examples.path={folder}/texts.jsonl "
    "dataset.train.sets.folder.query_prompt=find dataset.train.mixing=round_robin",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder in BEIR's layout, and a file of each kind over it."""
    folder = tmp_path_factory.mktemp("files")
    texts = [{"query": f"find {text}", "pos": [text], "neg": [TOYS[n - 1]]} for n, text in enumerate(TOYS)]
    prompted = [
        each | {"pos_scores": [2.0], "neg_scores": [0.5], "prompt": "look: ", "type": "symmetric_sts"} for each in texts
    ]
    others = {n: [f"d{(n + k) % 5}" for k in range(1, 4)] for n in range(5)}
    mined = [{"qid": f"q{n}", "pos": [f"d{n}"], "neg": {"bm25": ids}} for n, ids in others.items()]
    scores: list[Any] = [[f"q{n}", {f"d{n}": 3.0, **dict.fromkeys(ids, 1.0)}] for n, ids in others.items()]
    run = [f"q{n} Q0 d{d} 1 {-float((d - n) % 5)} x" for n in range(5) for d in range(5)]
    kinds: dict[str, list[Any]] = {"texts": texts, "prompted": prompted, "mined": mined, "scores": scores}
    for name, rows in kinds.items():
        write(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(folder / "a.run", "\n".join(run) + "\n")
    return {"folder": folder, "toys": write_toys(folder / "toys")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_trains_on_each_kind_of_training_set(
    compose: Compose, tmp_path: Path, files: dict[str, Path], kind: str
) -> None:
    """From the option's file to a checkpoint, with finite losses."""
    fit(compose, tmp_path / "run", *shlex.split(KINDS[kind].format(**files)), *SHORT)
    assert (tmp_path / "run" / "history.csv").is_file()
    assert list((tmp_path / "run").glob("*.safetensors"))


def test_ranks_and_in_batch_negatives_do_not_go_together(
    compose: Compose, tmp_path: Path, files: dict[str, Path]
) -> None:
    """Said before the first step."""
    overrides = shlex.split(KINDS["run by rank"].format(**files).replace("model=mono loss=rank_net", "loss=info_nce"))
    with pytest.raises(UserError, match="lists with ranks or scores do not say which document is one"):
        fit(compose, tmp_path / "run", *overrides, *SHORT)
