"""Training on two processes: steps, weights and messages are those of one process.

Run as a program, this module is one of two processes that train for a step.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.strategies import Strategy
from safetensors.torch import load_file
from torch import Tensor

from irexp.dataset.collection import Examples
from irexp.loss.info_nce import InfoNCE
from irexp.loss.list_mle import ListMLE
from irexp.loss.loss import Loss
from irexp.loss.margin_mse import MarginMSE
from irexp.loss.rank_net import RankNet
from irexp.loss.symmetric_info_nce import SymmetricInfoNCE
from irexp.loss.weighted_sum import WeightedSum
from irexp.model.bi_encoder import BiEncoder
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.maxsim import products
from irexp.pipeline.component import component
from irexp.regularizer.flops import FLOPS
from irexp.regularizer.regularizer import Regularizer
from irexp.training.batch import Batch
from irexp.training.callbacks import read_history
from irexp.training.tracked_job import TrackedJob
from irexp.training.tracking import csv_logger
from irexp.types import Embeddings, UserError
from tests import tiny
from tests.processes import reserved_port, wait_for_all
from tests.training.eight import BACKBONE, PAIRS, ROOT, Listed, batches, first
from tests.trainings import SMALL, Compose, fit, weights, write_toys


def made(kind: str) -> BiEncoder:
    """A model without dropout, with a seeded projection."""
    torch.manual_seed(3)
    lengths: dict[str, Any] = {"query_length": 16, "document_length": 16}
    if kind.startswith("colbert"):
        return ColBERT(BACKBONE, dim=8, **lengths).eval()
    return DenseBiEncoder(BACKBONE, **lengths).eval()


@dataclass
class Case:
    """The loss, regularizer and examples that two processes train with."""

    loss: Loss
    regularizer: Regularizer | None = None
    examples: Examples = PAIRS
    chunk_size: int | None = None


#: Queries with different numbers of documents, some shared: seven in all, so that one of two processes has three.
LISTS = Listed(
    ("q3", ("d4", "d6"), (0.9, 0.2)),
    ("q4", ("d5", "d6", "d7"), (0.8, 0.3, 0.4)),
    ("q5", ("d6", "d1"), (0.5, 0.1)),
    ("q6", ("d7", "d2", "d3", "d4"), (1.9, 0.2, 0.7, 0.3)),
)

FLOPS_OF_BOTH = FLOPS(query_weight=0.2, document_weight=0.3)

CASES = {
    "dense": Case(InfoNCE()),
    "colbert": Case(InfoNCE()),
    "dense, FLOPS": Case(InfoNCE(), FLOPS_OF_BOTH, LISTS),
    "dense, FLOPS of own documents": Case(MarginMSE(), FLOPS_OF_BOTH, LISTS),
    "dense, FLOPS, in chunks": Case(InfoNCE(), FLOPS_OF_BOTH, LISTS, chunk_size=1),
    "colbert, in chunks": Case(InfoNCE(), chunk_size=1),
    "dense, MarginMSE": Case(MarginMSE(), None, LISTS),
    "dense, RankNet, in chunks": Case(RankNet(), None, LISTS, chunk_size=2),
    "dense, symmetric InfoNCE": Case(SymmetricInfoNCE(), None, LISTS),
    "dense, ListMLE and InfoNCE": Case(
        WeightedSum({"list": ListMLE(), "nce": InfoNCE()}, weights={"nce": 0.3}), None, LISTS
    ),
}


def compute_loss(model: BiEncoder, batch: Batch, case: Case) -> Tensor:
    """The loss of a single process."""
    queries, documents = model.encode_queries(batch.queries), model.encode_documents(batch.documents)
    (score_BN,) = model.similarity(queries, documents)
    loss, own = score_BN.new_zeros(()), batch.own()
    for part in case.loss.parts():
        if part.loss.in_batch:
            loss = loss + part.weight * part.loss(score_BN, batch.target_BN)
        else:
            loss = loss + part.weight * part.loss(score_BN.gather(1, own.column_BN), own.target_BN)
    if case.regularizer is not None:
        assert isinstance(queries, Embeddings) and isinstance(documents, Embeddings)
        loss = loss + case.regularizer(queries.vectors_BH, documents.vectors_BH, step=1, steps=1)
    return loss


def one_process(
    port: int, folder: str, rank: int, kinds: Iterable[str], strategy: Callable[[], str | Strategy] = lambda: "ddp"
) -> None:
    """Run one training step of each kind as one of two processes, and save what it found."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank)}
    torch.set_num_threads(1)
    for kind in kinds:
        found = one_step(kind, folder, rank, strategy())
        if rank == 0:
            torch.save(found, Path(folder) / f"{kind}.pt")


def one_step(kind: str, folder: str, rank: int, strategy: str | Strategy) -> dict[str, Any]:
    """The weights and the loss of one training step, under Lightning's own strategy or another."""
    from lightning import Trainer

    from irexp.training.module import RetrievalModule

    model, case = made(kind), CASES[kind]
    module = RetrievalModule(
        model,
        case.loss,
        regularizer=case.regularizer,
        optimizer=torch.optim.SGD,
        schedule=lambda step, steps: 1.0,
        training=component("training", learning_rate=0.5, chunk_size=case.chunk_size),
        steps=1,
        seed=1,
        validation=None,
        processes=2,
    )

    def without_dropout() -> None:
        model.eval()

    module.on_train_start = without_dropout  # type: ignore[method-assign] # to compare with one process
    share = batches(model, case.examples, in_batch=case.loss.in_batch, rank=rank, world_size=2)
    loader = torch.utils.data.DataLoader(share, batch_size=None, sampler=[0])
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    trainer.fit(module, loader)
    state = trainer.strategy.lightning_module_state_dict()  # gathered by both, if it is sharded
    own = {name.removeprefix("model."): value for name, value in state.items()}
    return {"weights": own, "loss": trainer.callback_metrics["train/loss"]}


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one step on two processes found, per case."""
    return on_two_processes("tests.training.test_two_processes", tmp_path_factory.mktemp("two"))


def on_two_processes(module: str, folder: Path) -> Path:
    """Run a module as two processes, which start once for all its kinds; returns the folder that they write to."""
    with reserved_port() as port:
        command = [sys.executable, "-m", module, str(port), str(folder)]
        two = [subprocess.Popen([*command, str(rank)], cwd=ROOT, text=True) for rank in range(2)]
        assert wait_for_all(two) == [0, 0]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_a_step_on_two_processes_equals_the_step_on_one(kind: str, two_processes: Path) -> None:
    """The step and the logged loss are equal, up to the order in which fp32 numbers are summed.

    This needs in-batch negatives gathered with their gradients, a penalty on the whole batch's embeddings, and means
    over the pairs of both processes.
    """
    assert_step_of_one_process(kind, two_processes / f"{kind}.pt")


def assert_step_of_one_process(kind: str, saved: Path) -> None:
    """Assert that a single process takes the step that two have saved in a file."""
    alone, case = made(kind), CASES[kind]
    batch = first(batches(alone, case.examples, in_batch=case.loss.in_batch))
    if isinstance(alone, ColBERT):
        assert lead_of_the_best(alone, batch) > 1e-5  # above rounding: MaxSim's gradient goes to the same tokens
    loss = compute_loss(alone, batch, case)
    names, parameters = zip(*alone.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    found, logged = torch.load(saved, weights_only=True).values()
    torch.testing.assert_close(logged, loss.detach(), rtol=1e-5, atol=0.0)
    steps = {name: 0.5 * gradient for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
    largest = max(float(step.abs().max()) for step in steps.values())
    moved = 0
    for name, before in zip(names, [parameter.detach() for parameter in parameters], strict=True):
        step = steps.get(name, torch.zeros_like(before))
        torch.testing.assert_close(before - found[name], step, rtol=0, atol=allowed(step, before, largest))
        moved += not torch.equal(found[name], before)
    assert moved > 10


def allowed(step: Tensor, before: Tensor, largest: float) -> float:
    """The allowed difference between two steps of a parameter, since other matrix shapes are summed in another order.

    A score of ColBERT is a sum of 16 cosines, with a rounding error of 16 eps / 2; its logit has 1 / 0.05 times that.
    So the loss's probabilities, and every gradient, have a relative error of 2e-5, measured against the largest value
    of the parameter's step. Ten times that is allowed, since the layers below the score add more. A gradient that is
    zero by its formula, such as that of a key's bias, consists of rounding errors only. Finally, the weight is rounded
    when the step is subtracted.
    """
    eps = torch.finfo(torch.float32).eps
    return 2e-4 * float(step.abs().max()) + 10 * eps * largest + eps * float(before.abs().max())


def lead_of_the_best(model: ColBERT, batch: Batch) -> float:
    """The smallest lead of a query token's best document token over the second best, per document."""
    with torch.no_grad():
        query, document = model.encode_queries(batch.queries), model.encode_documents(batch.documents)
        similarity_BQNL = products(query, document).masked_fill(~document.mask_BL.bool(), -torch.inf)
    best_BQN2 = similarity_BQNL.topk(2, dim=-1).values[query.mask_BL.bool()]
    return float((best_BQN2[..., 0] - best_BQN2[..., 1]).min())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_training_on_two_processes_equals_training_on_one(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, history and tracker are equal up to fp32 summation order, inside a Slurm job of one task; sharded, too.

    deepspeed is compared where it is installed. Dropout is off, since each process draws its own. The bias of the keys
    is not compared: attention does not depend on it, so that its gradient is rounding error, which Adam scales up to
    full steps.
    """
    for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    folder = tiny.bert(tmp_path / "bert", "BertForMaskedLM", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    more = ["model=splade", "backbone=hugging_face", f"backbone.name_or_path={folder}", "machine=cpu"]
    more += ["dataset=local", f"dataset.path={write_toys(tmp_path / 'toys')}", "training.batch_size=4"]
    more += ["dataset.query_length=8", "dataset.document_length=16", "training.learning_rate=1e-3"]
    more += ["training.steps=20", "training.validate_every=10"]
    found, measures = {}, {}
    devices = {"one": [], "two": ["machine.devices=2"], "sharded": ["machine.devices=2", "machine.strategy=fsdp"]}
    if importlib.util.find_spec("deepspeed") is not None:
        devices["zero"] = ["machine.devices=2", "machine.strategy=deepspeed_stage_3"]
    for name, chosen in devices.items():
        tracker = csv_logger(tmp_path / f"{name}-log", TrackedJob(name, name, "fit"))
        (tmp_path / name).mkdir()
        config = compose(*SMALL, *more, *chosen)
        call = instantiate(config.stage.fit, _convert_="object")
        measures[name] = call(tmp_path / name, logger=tracker)
        tracker.finalize("success")
        with (tmp_path / f"{name}-log" / "metrics.csv").open() as file:
            curves = [(row["step"], key, float(row[key])) for row in csv.DictReader(file) for key in row if row[key]]
        history = read_history(tmp_path / name / "history.csv")
        found[name] = [(row["step"], row["name"], float(row["value"])) for row in history] + curves
    assert len([1 for _, name, _ in found["one"] if name == "train/loss"]) == 4  # in the history and the tracker
    assert len([1 for _, name, _ in found["one"] if name == "validation/nDCG@10"]) == 6
    one, start = weights(tmp_path / "one"), load_file(folder / "model.safetensors")
    moved = max(float((one[key] - start[key]).abs().max()) for key in one if key in start)
    assert moved > 5e-3
    for name in list(devices)[1:]:
        assert [line[:2] for line in found[name]] == [line[:2] for line in found["one"]]
        assert [value for *_, value in found[name]] == pytest.approx([value for *_, value in found["one"]], rel=1e-4)
        assert measures[name] == pytest.approx(measures["one"], rel=1e-4)
        two = weights(tmp_path / name)
        assert two.keys() == one.keys()
        assert max(float((one[key] - two[key]).abs().max()) for key in one if not key.endswith("key.bias")) < 5e-4


@pytest.mark.slow
def test_an_error_in_one_of_two_processes_is_a_single_line(compose: Compose, tmp_path: Path) -> None:
    """A diverged training on two devices gives the same message as on one, not the traceback of a process."""
    more = ("training.learning_rate=1e30", "training.clip_norm=null", "schedule=constant", "machine=cpu")
    with pytest.raises(UserError, match=r"^the loss is nan at step \d: lower training\.learning_rate") as error:
        fit(compose, tmp_path / "run", *more, "machine.devices=2", "training.validate_every=null")
    assert isinstance(error.value, UserError)
    assert "\n" not in str(error.value)


if __name__ == "__main__":
    one_process(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), CASES)
