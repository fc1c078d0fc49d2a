"""Training batches: their examples, targets and negatives, and their division among processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from irexp.dataset.collection import Documents, Examples
from irexp.loss.info_nce import InfoNCE
from irexp.loss.loss import Loss
from irexp.loss.margin_mse import MarginMSE
from irexp.loss.rank_net import RankNet
from irexp.model.bi_encoder import BiEncoder
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.maxsim import products
from irexp.model.mono import Mono
from irexp.regularizer.flops import FLOPS
from irexp.regularizer.regularizer import Regularizer
from irexp.training.batch import Batch, Batches, PairBatch, unknown_documents
from irexp.types import Document, Embeddings, Example, Query
from tests.processes import reserved_port, wait_for_all

ROOT = Path(__file__).parents[2]
BACKBONE = instantiate(OmegaConf.load(ROOT / "conf" / "backbone" / "splade_tiny.yaml"))

#: Query 0 has two relevant documents, 0 and 1; every other query i has the document i + 1.
RELEVANT = {"q0": {"d0", "d1"}, **{f"q{i}": {f"d{i + 1}"} for i in range(1, 7)}}


class Eight(Documents):
    """Documents d0 … d7."""

    def __iter__(self) -> Iterator[Document]:
        return (Document(f"d{i}", f"text number {i}") for i in range(8))

    def count(self) -> int:
        """Eight."""
        return 8

    def get_many(self, doc_ids: Iterable[str]) -> dict[str, Document]:
        """The requested documents that exist."""
        known = {document.doc_id: document for document in self}
        return {doc_id: known[doc_id] for doc_id in doc_ids if doc_id in known}


class Listed(Examples):
    """Examples from a list."""

    def __init__(self, *examples: tuple[str, tuple[str, ...], tuple[float, ...]]) -> None:
        """Query id, document ids and targets of each example."""
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, position: int) -> Example:
        query_id, doc_ids, targets = self._examples[position]
        return Example(Query(query_id, f"question {query_id}"), doc_ids, targets)

    def doc_ids(self) -> set[str]:
        """The ids of all examples' documents."""
        return {doc_id for _, doc_ids, _ in self._examples for doc_id in doc_ids}

    def relevant_doc_ids(self, query_id: str) -> frozenset[str]:
        """The ids in RELEVANT."""
        return frozenset(RELEVANT[query_id])


PAIRS = Listed(*((q, (d,), (1.0,)) for q, doc_ids in RELEVANT.items() for d in sorted(doc_ids)))


@pytest.fixture(scope="module")
def model() -> DenseBiEncoder:
    """The offline backbone with mean pooling."""
    return DenseBiEncoder(BACKBONE, query_length=16, document_length=16).eval()


def batches(model: BiEncoder, examples: Examples = PAIRS, **changes: Any) -> Batches:
    """Batches of four queries with in-batch negatives."""
    settings = {"size": 4, "in_batch": True, "seed": 1} | changes
    return Batches(examples, Eight(), model, **settings)


def test_every_epoch_visits_each_example_once_in_a_new_order(model: DenseBiEncoder) -> None:
    """Batches are consecutive slices of one seeded permutation per epoch."""
    made = batches(model)
    positions = [position for number in range(4) for position in made.positions(number)]
    assert sorted(positions[:8]) == sorted(positions[8:]) == list(range(8))
    assert positions[:8] != positions[8:]
    assert batches(model).positions(3) == made.positions(3)
    assert batches(model, seed=2).positions(0) != made.positions(0)


def test_a_known_positive_is_never_a_negative(model: DenseBiEncoder) -> None:
    """For q0 with d0, the other relevant document d1 has no target; other queries' documents are negatives."""
    examples = Listed(*((q, (d,), (1.0,)) for q, d in [("q0", "d0"), ("q0", "d1"), ("q3", "d4"), ("q4", "d5")]))
    batch = first(batches(model, examples))
    rows = [examples[position] for position in batches(model, examples).positions(0)]
    columns = [example.doc_ids[0] for example in rows]
    for row, example in enumerate(rows):
        for column, doc_id in enumerate(columns):
            target = batch.target_BN[row, column].item()
            if doc_id == example.doc_ids[0]:
                assert target == 1.0
            elif doc_id in RELEVANT[example.query.query_id]:
                assert target != target  # NaN
            else:
                assert target == 0.0


def test_a_document_of_two_queries_is_encoded_once(model: DenseBiEncoder) -> None:
    """A negative that two queries share is one column, not two."""
    examples = Listed(("q3", ("d4", "d6"), (1.0, 0.0)), ("q4", ("d5", "d6"), (1.0, 0.0)))
    batch = first(batches(model, examples, size=2))
    assert len(batch.documents.input_ids_BL) == 3
    assert (batch.target_BN == 1.0).sum() == 2


def test_with_in_batch_negatives_the_first_document_is_the_positive_whatever_the_teachers_scores(
    model: DenseBiEncoder,
) -> None:
    """With negative logits, no unscored document of another query and no second document becomes the positive."""
    examples = Listed(
        ("q3", ("d4", "d6"), (-1.5, -6.0)), ("q4", ("d5", "d7"), (-2.5, -0.5)), ("q0", ("d0", "d1"), (3.0, 2.0))
    )
    made = batches(model, examples, size=3)
    batch = first(made)
    rows = [examples[position] for position in made.positions(0)]
    columns = [doc_id for example in rows for doc_id in example.doc_ids]
    for row, example in enumerate(rows):
        expected = [float(doc_id == example.doc_ids[0]) for doc_id in columns]
        if example.query.query_id == "q0":
            expected[columns.index("d1")] = torch.nan  # relevant, too
        torch.testing.assert_close(batch.target_BN[row], torch.tensor(expected), equal_nan=True)


def test_without_in_batch_negatives_a_query_has_only_its_own_documents(model: DenseBiEncoder) -> None:
    """Targets are those of the example; a listed negative that is known to be relevant has no target."""
    examples = Listed(("q0", ("d0", "d6", "d1"), (1.0, 0.0, 0.0)), ("q3", ("d4", "d7"), (0.9, 0.3)))
    batch = first(batches(model, examples, size=2, in_batch=False))
    rows = [examples[position].query.query_id for position in batches(model, examples, size=2).positions(0)]
    assert batch.column_BN is not None
    q0, q3 = rows.index("q0"), rows.index("q3")
    assert batch.target_BN[q0].tolist()[:2] == [1.0, 0.0]
    assert batch.target_BN[q0].isnan().sum() == 1
    assert batch.target_BN[q3, :2].tolist() == pytest.approx([0.9, 0.3])
    assert batch.target_BN[q3].isnan().sum() == 1


def test_documents_missing_from_the_collection_are_left_out(model: DenseBiEncoder) -> None:
    """An example without its relevant document is left out; a missing negative has no column."""
    examples = Listed(("q3", ("gone",), (1.0,)), ("q4", ("d5", "gone too"), (1.0, 0.0)))
    unknown = unknown_documents(examples, Eight())
    assert unknown == {"gone", "gone too"}
    made = batches(model, examples, size=1, unknown=unknown)
    assert made.examples == 1
    assert len(first(made).documents.input_ids_BL) == 1


def first(made: Batches) -> Batch:
    """The first batch of a bi-encoder."""
    batch = made[0]
    assert isinstance(batch, Batch)
    return batch


def test_negatives_are_drawn_again_at_each_step_from_the_seed(model: DenseBiEncoder) -> None:
    """Each step uses two of four negatives, not always the same two; the same step draws the same two again."""
    examples = Listed(("q3", ("d4", "d5", "d6", "d7", "d1"), (1.0, 0.0, 0.0, 0.0, 0.0)))
    settings: dict[str, Any] = {"size": 1, "in_batch": False, "negatives": 2}
    seen = [first_n.target_BN.shape[1] for first_n in (batches(model, examples, **settings)[n] for n in range(4))]
    assert seen == [3] * 4
    texts = {str(batches(model, examples, **settings)[n].documents.input_ids_BL.tolist()) for n in range(12)}  # type: ignore[union-attr]
    assert 3 <= len(texts) <= 6
    again = batches(model, examples, **settings)[5]
    assert torch.equal(again.documents.input_ids_BL, batches(model, examples, **settings)[5].documents.input_ids_BL)  # type: ignore[union-attr]


def test_a_cross_encoders_batch_pairs_each_query_with_its_own_documents(model: DenseBiEncoder) -> None:
    """Shorter lists are padded with NaN targets, and a relevant document is not paired as a negative."""
    torch.manual_seed(0)
    mono = Mono(BACKBONE, query_length=8, document_length=16)
    examples = Listed(("q0", ("d0", "d6", "d1"), (1.0, 0.0, 0.0)), ("q3", ("d4", "d7", "d5"), (0.9, 0.3, 0.2)))
    made = Batches(examples, Eight(), mono, size=2, in_batch=False, seed=1)
    batch = made[0]
    assert isinstance(batch, PairBatch)
    rows = [examples[position].query.query_id for position in made.positions(0)]
    q0, q3 = rows.index("q0"), rows.index("q3")
    assert batch.sizes[q0] == 2
    assert batch.sizes[q3] == 3
    assert batch.target_BN[q0].isnan().tolist() == [False, False, True]
    assert len(batch.pairs.input_ids_BL) == 5
    assert sorted({*batch.column_BN[q0, :2].tolist(), *batch.column_BN[q3].tolist()}) == [0, 1, 2, 3, 4]


def made(kind: str) -> BiEncoder:
    """A model without dropout, with a seeded projection."""
    torch.manual_seed(3)
    lengths: dict[str, Any] = {"query_length": 16, "document_length": 16}
    return (ColBERT(BACKBONE, dim=8, **lengths) if kind == "colbert" else DenseBiEncoder(BACKBONE, **lengths)).eval()


@dataclass
class Case:
    """The loss, regularizer and examples that two processes train with."""

    loss: Loss
    regularizer: Regularizer | None = None
    examples: Examples = PAIRS


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
    "dense, MarginMSE": Case(MarginMSE(), None, LISTS),
    "dense, RankNet": Case(RankNet(), None, LISTS),
}


def compute_loss(model: BiEncoder, batch: Batch, case: Case) -> Tensor:
    """The loss of a single process."""
    queries, documents = model.encode_queries(batch.queries), model.encode_documents(batch.documents)
    (score_BN,) = model.similarity(queries, documents)
    if batch.column_BN is not None:
        score_BN = score_BN.gather(1, batch.column_BN)
    loss: Tensor = case.loss(score_BN, batch.target_BN)
    if case.regularizer is not None:
        assert isinstance(queries, Embeddings) and isinstance(documents, Embeddings)
        loss = loss + case.regularizer(queries.vectors_BH, documents.vectors_BH, step=1, steps=1)
    return loss


def one_process(port: int, folder: str, kind: str, rank: int) -> None:
    """Run one training step as one of two processes, under Lightning's own strategy."""
    from lightning import Trainer

    from irexp.training.module import RetrievalModule

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank)}
    torch.set_num_threads(1)
    model, case = made(kind), CASES[kind]
    module = RetrievalModule(
        model,
        case.loss,
        regularizer=case.regularizer,
        optimizer=torch.optim.SGD,
        schedule=lambda step, steps: 1.0,
        learning_rate=0.5,
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
        strategy="ddp",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    trainer.fit(module, loader)
    if rank == 0:
        found = {"weights": model.state_dict(), "loss": trainer.callback_metrics["train/loss"]}
        torch.save(found, Path(folder) / "two.pt")


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_a_step_on_two_processes_equals_the_step_on_one(kind: str, tmp_path: Path) -> None:
    """The step and the logged loss are equal, up to the order in which fp32 numbers are summed.

    This needs in-batch negatives gathered with their gradients, a penalty on the whole batch's embeddings, and means
    over the pairs of both processes.
    """
    alone, case = made(kind), CASES[kind]
    batch = first(batches(alone, case.examples, in_batch=case.loss.in_batch))
    if isinstance(alone, ColBERT):
        assert lead_of_the_best(alone, batch) > 1e-5  # above rounding: MaxSim's gradient goes to the same tokens
    loss = compute_loss(alone, batch, case)
    names, parameters = zip(*alone.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    with reserved_port() as port:
        command = [sys.executable, "-m", "tests.training.test_batch", str(port), str(tmp_path), kind]
        two = [subprocess.Popen([*command, str(rank)], cwd=ROOT, text=True) for rank in range(2)]
        assert wait_for_all(two) == [0, 0]
    found, logged = torch.load(tmp_path / "two.pt", weights_only=True).values()
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


if __name__ == "__main__":
    one_process(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
