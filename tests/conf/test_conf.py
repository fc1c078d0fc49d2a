"""Every file of conf/ composes and binds; tests/artifact/test_golden.py says which artifacts each leads to."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from irexp.config.check import config_faults

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(
    path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.glob("*/*.yaml") if path.parent.name != "hydra"
)

#: The values that an option leaves to the user, as the test sets them.
USER_VALUES = {
    "dataset/local": ["dataset.path=somewhere"],
    "dataset/files": ["dataset.documents.path=a.tsv", "dataset.test.queries_path=b.tsv"],
    "dataset/triples": [
        "dataset.documents.path=a.tsv",
        "dataset.test.queries_path=b.tsv",
        "dataset.train.path=c.tsv",
        "dataset.train.topics.queries_path=d.tsv",
    ],
    "dataset/texts": ["dataset.train.path=a.jsonl"],
    "dataset/run": [
        "dataset.documents.path=a.tsv",
        "dataset.test.queries_path=b.tsv",
        "dataset.train.run.path=c.run",
        "dataset.train.topics.queries_path=d.tsv",
    ],
    "dataset/scoreddocs": ["dataset.id=vaswani", "dataset.train.run.dataset_id=msmarco-passage/train"],
    "dataset/rank_distillm": ["dataset.train.run.path=c.run"],
    "dataset/rank_distillm_scores": ["dataset.train.run.path=c.run"],
    "dataset/rank_distillm_two_stages": ["dataset.path=b.run", "dataset.train.run.path=c.run"],
    "dataset/msmarco_hard_negatives": ["dataset.train.path=a.jsonl", "dataset.train.scores_path=b.jsonl"],
    "dataset/msmarco_64_way": ["dataset.train.path=a.json"],
    **{
        f"experiment/train_{name}": ["dataset.train.path=a.jsonl", "dataset.train.scores_path=b.jsonl"]
        for name in ("sbert", "splade", "splade_v3")
    },
    "experiment/train_colbert": ["dataset.train.path=a.json"],
    "experiment/train_mono_electra": ["dataset.path=b.run", "dataset.train.run.path=c.run"],
    "experiment/train_set_encoder": ["dataset.path=b.run", "dataset.train.run.path=c.run"],
    "experiment/train_lightning_ir": ["dataset.train.run.path=c.run"],
    "dataset/hard_negatives": [
        "dataset.documents.path=a.tsv",
        "dataset.test.queries_path=b.tsv",
        "dataset.train.path=c.jsonl",
        "dataset.train.topics.queries_path=d.tsv",
    ],
    "dataset/mixture": [
        "dataset.documents.path=a.tsv",
        "dataset.test.queries_path=b.tsv",
        "dataset.path=somewhere",
        "dataset.train.sets.texts.examples.path=c.jsonl",
    ],
    "dataset/irds": ["dataset.id=vaswani"],
    "index/faiss": ["index.factory=Flat"],
    "stage/export": ["stage.export.format=ciff", "stage.export.folder=somewhere"],
    "stage/why": ["stage.why.of=[1a2b3c4d,5e6f7a8b]"],
    "stage/show": ["stage.show.of=1a2b3c4d"],
    "stage/push": ["stage.push.repository=me/model"],
    "false_negatives/guide": ["false_negatives.guide=checkpoint/sbert.aws_howto-12345678"],
    "backbone/hugging_face": ["backbone.name_or_path=some/model"],
}


def test_every_option_file_is_tested() -> None:
    """The tests below run over all of conf/, not over a glob that silently shrank."""
    of_hydra = list((CONF / "hydra").rglob("*.yaml"))
    assert len(OPTIONS) == len(list(CONF.rglob("*.yaml"))) - 1 - len(of_hydra)  # without config.yaml
    assert len(OPTIONS) >= 100


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_composes_and_binds(option: str, compose: Callable[..., DictConfig]) -> None:
    """A misspelt key or a missing constructor argument in a file would fail only when someone uses it."""
    group, _, name = option.partition("/")
    config = compose(f"{group}={name}", *USER_VALUES.get(option, []))
    assert config_faults(config) == []


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.relative_to(CONF).as_posix())
def test_a_file_begins_with_a_comment_and_is_short(path: Path) -> None:
    """Without a first line that describes it, an option can only be understood from the code."""
    lines = [line for line in path.read_text(encoding="utf8").splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ")
    assert len(lines) <= (60 if path.parent.name in ("hydra", "conf", "experiment") else 30)
