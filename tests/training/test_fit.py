"""Fine-tuning: exact resuming, the best checkpoint, early stopping, accumulation."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from irexp.model.dense import DenseBiEncoder
from irexp.model.load import load
from irexp.training.callbacks import read_history
from irexp.types import UserError
from tests.trainings import SMALL, TOYS, Compose, assert_equal, fit, weights, write_toys

ROOT = Path(__file__).parents[2]

#: A training that is killed when it makes the batch of the given number.
KILLED = """
import os, sys
from pathlib import Path
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from irexp.training.batch import Batches

make = Batches.__getitem__

def dies(self, number):
    if number == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    return make(self, number)

Batches.__getitem__ = dies
register_resolvers(); register_schema()
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    config = compose("config", overrides=sys.argv[4:])
instantiate(config.stage.fit, _convert_="object")(Path(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "die_at"),
    [
        ((), 3),
        (("training.steps=6", "training.accumulate_batches=2", "schedule=cosine"), 9),
        (("dataset=local", "training.steps=null", "training.epochs=4", "training.batch_size=4"), 3),
    ],
    ids=["steps", "accumulated", "epochs"],
)
def test_a_killed_and_resumed_training_equals_an_uninterrupted_one(
    compose: Compose, tmp_path: Path, more: tuple[str, ...], die_at: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights, history and best validation are bitwise equal, in steps or epochs, also with accumulated batches.

    `die_at` is the number of the batch at which the process dies.
    """
    if "dataset=local" in more:
        more = (*more, f"dataset.path={write_toys(tmp_path / 'toys')}")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with caplog.at_level("INFO"):
        measures = fit(compose, whole, *more)
    assert "the model can be saved and loaded again" in caplog.text
    caplog.clear()
    killed.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(ROOT / "conf"), str(die_at), str(killed), *SMALL, *more],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    assert (killed / ".training" / "last.ckpt").is_file()
    assert not (killed / "model.safetensors").exists()
    with caplog.at_level("INFO"):
        assert fit(compose, killed, *more) == measures
    assert "the model can be saved and loaded again" not in caplog.text  # checked before the first step only
    assert_equal(weights(killed), weights(whole))
    assert read_history(killed / "history.csv") == read_history(whole / "history.csv")
    assert (killed / ".training").exists()  # the store removes it after the manifest is written


def test_a_training_killed_before_its_first_checkpoint_starts_over(compose: Compose, tmp_path: Path) -> None:
    """The rows that it left in the history are removed."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "history.csv").write_text("step,name,value\n0,validation/nDCG@10,0.5\n")
    fit(compose, folder, "training.steps=2")
    assert [row["step"] for row in read_history(folder / "history.csv")] == ["0", "2"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_does_not(compose: Compose, tmp_path: Path) -> None:
    """Weights of two trainings with one seed are bitwise equal; with another seed they differ."""
    fit(compose, tmp_path / "a")
    fit(compose, tmp_path / "b")
    fit(compose, tmp_path / "c", "seed=7")
    assert_equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    changed = [
        key for key, value in weights(tmp_path / "a").items() if not torch.equal(value, weights(tmp_path / "c")[key])
    ]
    assert changed


def test_data_loader_workers_do_not_change_the_weights(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are the same wherever they are made; a worker does not hang waiting for its parent's threads."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    fit(compose, tmp_path / "a", "training.steps=2")
    fit(compose, tmp_path / "b", "training.steps=2", "machine.num_workers=1")
    assert_equal(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_the_best_weights_are_kept_not_the_last(compose: Compose, tmp_path: Path) -> None:
    """With a ruinous learning rate the result is the best validated step after the start, with its measure."""
    more = ("training.steps=6", "training.learning_rate=0.05", "schedule=constant", "training.clip_norm=null")
    measures = fit(compose, tmp_path / "run", *more)
    history = [row for row in read_history(tmp_path / "run" / "history.csv") if row["name"] == "validation/nDCG@10"]
    values = {int(row["step"]): float(row["value"]) for row in history}
    assert list(values) == [0, 2, 4, 6]  # the untrained model, and every second step
    best = max((2, 4, 6), key=values.__getitem__)
    assert measures["steps"] == best
    assert measures["validation/nDCG@10"] == pytest.approx(values[best], rel=1e-5)


def test_training_stops_early_when_validation_does_not_improve(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With patience 1 a ruined model stops before the last step, and the log says why."""
    more = ("training.steps=40", "training.learning_rate=1.0", "training.clip_norm=null", "training.patience=1")
    with caplog.at_level("INFO"):
        fit(compose, tmp_path / "run", *more)
    last = max(int(row["step"]) for row in read_history(tmp_path / "run" / "history.csv"))
    assert last < 40
    assert f"the training ended at step {last}: no better validation followed (training.patience)" in caplog.text


def test_training_that_stops_early_at_the_last_validation_keeps_the_best(compose: Compose, tmp_path: Path) -> None:
    """Nothing improves without a learning rate: it stops at step 4 of 5 and keeps the first of equal validations."""
    more = ("training.steps=5", "training.learning_rate=0", "training.patience=1")
    assert fit(compose, tmp_path / "run", *more)["steps"] == 2
    steps = [int(r["step"]) for r in read_history(tmp_path / "run" / "history.csv") if r["name"].startswith("valid")]
    assert steps == [0, 2, 4]
    assert fit(compose, tmp_path / "patient", *more[:2])["steps"] == 2


@pytest.mark.parametrize(("every", "expected"), [(2, [0, 2, 4, 5]), (100, [0, 5])])
def test_the_last_step_is_always_validated(compose: Compose, tmp_path: Path, every: int, expected: list[int]) -> None:
    """Five steps, validated every second one or never in between: the fifth is validated at the end."""
    fit(compose, tmp_path / "run", "training.steps=5", f"training.validate_every={every}")
    steps = [int(r["step"]) for r in read_history(tmp_path / "run" / "history.csv") if r["name"].startswith("valid")]
    assert steps == expected


def test_training_of_zero_steps_saves_the_backbones_weights(compose: Compose, tmp_path: Path) -> None:
    """An untrained model must be the loaded backbone, bitwise."""
    assert fit(compose, tmp_path / "run", "training.steps=0", "training.validate_every=null") == {}
    encoder = load(tmp_path / "run")
    assert isinstance(encoder, DenseBiEncoder)
    saved = encoder.document_tower.encoder.state_dict()
    assert_equal(saved, instantiate(compose().backbone).load_encoder().state_dict())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("dataset.train=null",), "no dataset.train to learn from"),
        (("dataset.dev=null",), "no dataset.dev to validate on"),
        (("training.batch_size=1",), "no training example has a negative of its own.*or batches of several"),
        (("loss=lce",), "no training example has a negative of its own.*loss=info_nce"),
        (("training.select_by=nonsense@3",), "nonsense"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(
    compose: Compose, tmp_path: Path, overrides: tuple[str, ...], message: str
) -> None:
    """Each error names the faulty setting."""
    with pytest.raises(UserError, match=message):
        fit(compose, tmp_path / "run", *overrides)


def test_a_model_that_cannot_be_saved_and_loaded_is_not_trained(
    compose: Compose, tmp_path: Path, folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """The error comes before the first step; without training nothing is checked."""
    overrides = ["model=unicoil", "backbone=hugging_face", f"backbone.name_or_path={folders['t5']}"]
    with pytest.raises(
        UserError, match="model=unicoil: a UniCOIL on a T5EncoderModel cannot be saved and loaded again"
    ):
        fit(compose, tmp_path / "run", *overrides)
    assert list((tmp_path / "run").iterdir()) == []
    with caplog.at_level("INFO"):
        fit(compose, tmp_path / "untrained", "training.steps=0")
    assert "the model can be saved and loaded again" not in caplog.text


def test_a_diverged_training_stops_with_an_error(compose: Compose, tmp_path: Path) -> None:
    """A loss that is not finite stops the training and says how to fix it, rather than saving useless weights."""
    with pytest.raises(UserError, match=r"lower training\.learning_rate"):
        fit(compose, tmp_path / "run", "training.learning_rate=1e30", "training.clip_norm=null", "schedule=constant")


def test_a_training_that_diverges_at_its_last_step_is_an_error(compose: Compose, tmp_path: Path) -> None:
    """Its loss was finite; the weights after it are not."""
    more = ("training.learning_rate=1e38", "training.clip_norm=null", "schedule=constant", "training.steps=1")
    with pytest.raises(UserError, match=r"are not finite after the last step: lower training\.learning_rate"):
        fit(compose, tmp_path / "run", *more, "training.validate_every=null", "optimizer.weight_decay=1e3")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.slow
def test_training_improves_retrieval_in_full_and_half_precision(
    compose: Compose, tmp_path: Path, precision: str
) -> None:
    """nDCG@10 rises by more than 0.1, also if a step accumulates two batches.

    The losses of single batches, of eight queries each, differ by more than thirty steps change them.
    """
    more = ("training.steps=30", "training.accumulate_batches=2", "training.validate_every=30")
    measures = fit(compose, tmp_path / "run", *more, f"training.precision={precision}", "training.batch_size=16")
    history = read_history(tmp_path / "run" / "history.csv")
    losses, (before, after) = (
        [float(row["value"]) for row in history if row["name"] == name] for name in ("train/loss", "validation/nDCG@10")
    )
    assert measures["steps"] == 30
    assert len(losses) == 3 and max(losses) < 1.5 * math.log(8)
    assert after > before + 0.1


def test_an_example_without_its_relevant_document_is_left_out_and_counted(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Qrels of a document that is not in the collection give one log line, and training continues."""
    more = ("dataset=local", f"dataset.path={write_toys(tmp_path / 'toys')}", "training.validate_every=null")
    fit(compose, tmp_path / "run", *more, "training.batch_size=4", "training.steps=3")
    assert (
        "1 documents of the training examples are not in the collection, such as 'gone': 1 of 6 examples lack their "
        "relevant document and are left out" in caplog.text
    )


@pytest.mark.parametrize(
    ("model", "adapter", "name"), [("sbert", "none", "word_embeddings"), ("splade", "lora", "cls")]
)
def test_no_weight_is_trained_in_half_precision(
    compose: Compose, tmp_path: Path, folders: dict[str, Path], model: str, adapter: str, name: str
) -> None:
    """Small steps would be lost: refused for the whole model, and for a head trained with adapters."""
    more = [f"model={model}", f"adapter={adapter}", "backbone=hugging_face", "+backbone.dtype=bfloat16"]
    more += ["dataset.document_length=32"]
    with pytest.raises(UserError, match=rf"backbone\.dtype=bfloat16: .*{name}.* would be trained in this precision"):
        fit(compose, tmp_path / "run", *more, f"backbone.name_or_path={folders['encoder']}")


@pytest.mark.parametrize("model", ["set_encoder", "mono_t5", "rank_t5", "mono_decoder"])
def test_a_re_ranker_learns_from_a_runs_negatives(
    compose: Compose, tmp_path: Path, folders: dict[str, Path], model: str
) -> None:
    """Training changes the scores, and the adapters' folder scores as the merged checkpoint."""
    kind = "encoder" if model == "set_encoder" else "decoder" if model == "mono_decoder" else "t5"
    more = [f"model={model}", "backbone=hugging_face", f"backbone.name_or_path={folders[kind]}", "adapter=lora"]
    more += ["dataset=local", f"dataset.path={write_toys(tmp_path / 'toys')}", "training.validate_every=null"]
    more += ["dataset.query_length=8", "dataset.document_length=16", "training.learning_rate=0.1"]
    if kind == "decoder":
        more += ["model.template='Query {query} Document {document} Relevant'", "adapter.target_modules=all-linear"]
    (tmp_path / "negatives").mkdir()
    lines = [f"q{i} Q0 d{(i + k) % 6} {k} {-k} x\n" for i in range(5) for k in (1, 2)]
    (tmp_path / "negatives" / "test.run").write_text("".join(lines))
    config = compose(*SMALL, *more, "negatives.depth=3", "training.batch_size=4", "schedule=constant")
    torch.manual_seed(config.seed)
    before = instantiate(config.model, _convert_="object")().eval().score(TOYS[0], TOYS)
    (tmp_path / "run").mkdir()
    instantiate(config.stage.fit, _convert_="object")(tmp_path / "run", tmp_path / "negatives")
    merged, adapted = (load(tmp_path / place).score(TOYS[0], TOYS) for place in ("run", "run/adapter"))
    torch.testing.assert_close(adapted, merged, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(merged, before, atol=1e-2)
