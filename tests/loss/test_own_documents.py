"""Losses over a query's own documents: each against its naive formula, and on batches that are hard on a loss."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import irexp.loss
from irexp.loss.adr_mse import ADRMSE
from irexp.loss.approx_mrr import ApproxMRR
from irexp.loss.approx_ndcg import ApproxNDCG
from irexp.loss.approx_rank_mse import ApproxRankMSE
from irexp.loss.constant_margin_mse import ConstantMarginMSE
from irexp.loss.contrastive_local import ContrastiveLocal
from irexp.loss.cosent import CoSENT
from irexp.loss.info_nce import InfoNCE
from irexp.loss.kl_divergence import KLDivergence
from irexp.loss.lambda_loss import LambdaLoss
from irexp.loss.lce import LCE
from irexp.loss.list_mle import ListMLE
from irexp.loss.list_net import ListNet
from irexp.loss.loss import Loss
from irexp.loss.margin_mse import MarginMSE
from irexp.loss.neural_ndcg import NeuralNDCG
from irexp.loss.p_list_mle import PListMLE
from irexp.loss.pearson import PearsonCorrelation
from irexp.loss.rank_net import RankNet
from irexp.loss.score_based_cross_entropy import ScoreBasedInBatchCrossEntropy
from irexp.loss.symmetric_info_nce import SymmetricInfoNCE
from irexp.types import UserError
from tests.loss import naive
from tests.loss.naive import Rows

NAN = math.nan

SCORES: Rows = [[2.0, 0.5, -1.0, 0.1], [0.3, 0.7, -0.4, 9.0], [1.0, 2.0, 0.0, 7.0]]
TARGETS: Rows = [[3.0, 1.0, 1.0, 0.0], [0.9, 0.2, 0.4, NAN], [2.0, 1.0, NAN, NAN]]

NAIVE: dict[str, tuple[Loss, Callable[[Rows, Rows], float]]] = {
    "LCE": (LCE(), naive.lce),
    "RankNet": (RankNet(), naive.rank_net),
    "MarginMSE": (MarginMSE(), naive.margin_mse),
    "KLDivergence": (KLDivergence(), naive.kl_divergence),
    "ListNet": (ListNet(), naive.list_net),
    "ListMLE": (ListMLE(), naive.list_mle),
    "PListMLE": (PListMLE(), naive.p_list_mle),
    "LambdaLoss": (LambdaLoss(), naive.lambda_loss),
    "ApproxNDCG": (ApproxNDCG(), naive.approx_ndcg),
    "ApproxMRR": (ApproxMRR(), naive.approx_mrr),
    "ApproxRankMSE": (ApproxRankMSE(), naive.approx_rank_mse),
    "ApproxRankMSE, reciprocal": (
        ApproxRankMSE(discount="reciprocal"),
        lambda scores, targets: naive.approx_rank_mse(scores, targets, lambda rank: 1 / rank),
    ),
    "ADRMSE": (ADRMSE(), naive.adr_mse),
    "NeuralNDCG": (NeuralNDCG(), naive.neural_ndcg),
    "PearsonCorrelation": (PearsonCorrelation(), naive.pearson),
    "ConstantMarginMSE": (ConstantMarginMSE(), naive.constant_margin_mse),
    "CoSENT": (CoSENT(temperature=1.0), naive.cosent),
}

#: Those that are not compared with a formula here: tests/loss/test_in_batch.py does it.
IN_BATCH = {
    "InfoNCE": InfoNCE(),
    "SymmetricInfoNCE": SymmetricInfoNCE(),
    "ScoreBasedInBatchCrossEntropy": ScoreBasedInBatchCrossEntropy(min_target_diff=0.1),
    "ContrastiveLocal": ContrastiveLocal(),
}
ALL = {name: loss for name, (loss, _) in NAIVE.items()} | IN_BATCH

#: Batches on which a mean or a root of nothing would be NaN.
HARD: dict[str, tuple[Rows, Rows]] = {
    "padding": (SCORES, TARGETS),
    "no ordered pair": (SCORES, [[1.0] * 4, [0.0] * 4, [2.0, 2.0, NAN, NAN]]),
    "a query with one document": (SCORES, [[3.0, 1.0, 1.0, 0.0], [1.0, NAN, NAN, NAN], [2.0, NAN, NAN, NAN]]),
    "no relevant document": (SCORES, [[0.0] * 4] * 3),
    "equal scores": ([[0.5] * 4] * 3, TARGETS),
    "far scores": ([[900.0, -900.0, 0.0, 5.0]] * 3, TARGETS),
    "negative targets": (SCORES, [[-3.0, -10.0, -1.0, -7.5]] * 3),
}


def gradient_of(loss: Loss, scores: Tensor, targets: Tensor) -> Tensor:
    """The gradient of the loss with respect to the scores."""
    scores = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(scores, targets), scores)
    return gradient


def test_every_loss_is_tested() -> None:
    """A new file of irexp/loss is among the losses below."""
    found = set()
    for module in pkgutil.iter_modules(irexp.loss.__path__):
        for name, value in vars(importlib.import_module(f"irexp.loss.{module.name}")).items():
            if inspect.isclass(value) and issubclass(value, Loss) and not inspect.isabstract(value):
                found.add(name)
    assert found - {"WeightedSum"} == {type(loss).__name__ for loss in ALL.values()}
    assert len(found) >= 20


@pytest.mark.parametrize("name", NAIVE)
def test_the_loss_is_its_formula(name: str) -> None:
    """The loss equals the naive formula for three queries, two of which have left-out documents."""
    loss, formula = NAIVE[name]
    expected = formula(SCORES, TARGETS)
    assert loss(torch.tensor(SCORES), torch.tensor(TARGETS)).item() == pytest.approx(expected, rel=2e-5)
    assert expected > 0.01


@pytest.mark.parametrize("batch", HARD)
@pytest.mark.parametrize("name", ALL)
def test_loss_and_gradient_are_finite(name: str, batch: str) -> None:
    """Without an ordered pair, with one document, with equal targets or far scores nothing is NaN."""
    scores, targets = map(torch.tensor, HARD[batch])
    assert torch.isfinite(ALL[name](scores, targets))
    gradient = gradient_of(ALL[name], scores, targets)
    assert torch.isfinite(gradient).all()
    assert (gradient[targets.isnan()] == 0.0).all()


@pytest.mark.parametrize("name", ALL)
def test_a_left_out_document_does_not_change_the_loss(name: str) -> None:
    """A document without a target is ignored whatever its score, and so are more such columns."""
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    expected = ALL[name](scores, targets)
    other = torch.cat([scores.masked_fill(targets.isnan(), -1e4), torch.full((3, 2), 5.0)], dim=1)
    torch.testing.assert_close(ALL[name](other, torch.cat([targets, torch.full((3, 2), NAN)], dim=1)), expected)


@pytest.mark.parametrize("name", ALL)
def test_permuting_the_documents_changes_nothing(name: str) -> None:
    """The order of the negatives does not matter, nor that of all documents if the positive need not be first."""
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    order = [0, 3, 1, 2] if name == "MarginMSE" else [3, 0, 2, 1]
    torch.testing.assert_close(ALL[name](scores[:, order], targets[:, order]), ALL[name](scores, targets))


@pytest.mark.parametrize("name", [name for name in ALL if name != "SymmetricInfoNCE"])
def test_the_losses_of_two_processes_weighted_by_their_terms_are_that_of_one(name: str) -> None:
    """`terms` counts what `forward` averages, also where one process has nothing to learn from."""
    scores, targets = torch.tensor([*SCORES, [3.0, 1.0, 0.2, 0.3]]), torch.tensor([*TARGETS, [1.0, 1.0, NAN, NAN]])
    loss = ALL[name]
    for cut in (1, 2, 3):
        parts = [(scores[:cut], targets[:cut]), (scores[cut:], targets[cut:])]
        total = sum(loss(s, t) * loss.terms(t) for s, t in parts) / sum(loss.terms(t) for _, t in parts)
        torch.testing.assert_close(total, loss(scores, targets))


@pytest.mark.parametrize("name", [name for name in NAIVE if name not in ("MarginMSE", "KLDivergence", "ListNet")])
def test_loss_and_gradient_are_0_if_all_targets_are_equal(name: str) -> None:
    """Without an order the mean would be 0 / 0."""
    scores, targets = torch.tensor([[1.0, 5.0], [2.0, 0.0]]), torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    assert ALL[name](scores, targets).item() == 0.0
    assert gradient_of(ALL[name], scores, targets).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("name", [name for name in ALL if name != "ContrastiveLocal"])
def test_a_batch_without_negatives_teaches_nothing(name: str) -> None:
    """Loss and gradient are 0, not NaN, whether the negatives are missing or left out."""
    for scores, targets in (([[1.0], [2.0]], [[1.0], [1.0]]), ([[1.0, 3.0], [2.0, 0.5]], [[1.0, NAN], [1.0, NAN]])):
        gradient = gradient_of(ALL[name], torch.tensor(scores), torch.tensor(targets))
        assert ALL[name](torch.tensor(scores), torch.tensor(targets)).item() == 0.0
        assert not gradient.any()


@pytest.mark.parametrize("name", [name for name, loss in ALL.items() if hasattr(loss, "temperature")])
def test_the_temperature_divides_the_scores_and_must_be_positive(name: str) -> None:
    """Doubling scores and temperature changes nothing; a temperature of 0 is an error."""
    make: Callable[..., Loss] = type(ALL[name])
    more = {"min_target_diff": 0.1} if name == "ScoreBasedInBatchCrossEntropy" else {}
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    doubled = targets * (2 if make in (KLDivergence, ListNet) else 1)
    one, two = make(temperature=1.0, **more), make(temperature=2.0, **more)
    torch.testing.assert_close(two(scores * 2, doubled), one(scores, targets))
    with pytest.raises(UserError, match=r"loss\.temperature=0"):
        make(temperature=0, **more)


@pytest.mark.parametrize("make", [LambdaLoss, ApproxNDCG, NeuralNDCG])
def test_max_grade_maps_a_teachers_scores_to_grades(make: Callable[..., Loss]) -> None:
    """Scores of any scale and offset, mapped to 0 … 3, give the loss of these grades; 0 is an error."""
    scores, grades = torch.tensor(SCORES[:1]), torch.tensor([[3.0, 1.0, 1.0, 0.0]])
    torch.testing.assert_close(make(max_grade=3.0)(scores, grades * 2.5 - 9.0), make()(scores, grades))
    with pytest.raises(UserError, match=r"loss\.max_grade=0"):
        make(max_grade=0)


@pytest.mark.parametrize("name", ["LambdaLoss", "ApproxNDCG", "NeuralNDCG"])
def test_gains_above_the_end_of_float32_are_compared(name: str) -> None:
    """2^200 is infinite there, while gains over the ideal DCG are at most 1."""
    loss, formula = NAIVE[name]
    scores, targets = [[2.0, 0.5, -1.0, 0.1], [0.3, 0.7, -0.4, 9.0]], [[200.0, 199.0, 0.0, 3.0], [1.0, 0.0, 3.0, NAN]]
    found = loss(torch.tensor(scores), torch.tensor(targets))
    assert found.item() == pytest.approx(formula(scores, targets), rel=1e-4)


@pytest.mark.parametrize("make", [KLDivergence, ListNet, MarginMSE])
def test_the_scale_multiplies_the_students_scores_alone_and_is_trained_on_request(make: Callable[..., Loss]) -> None:
    """A learned scale begins at its value, and its gradient is that of the loss; a scale of 0 is an error."""
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    torch.testing.assert_close(make(scale=4.0)(scores / 4, targets), make()(scores, targets))
    assert list(make(scale=4.0).parameters()) == []
    learned = make(scale=4.0, learn_scale=True)
    torch.testing.assert_close(learned(scores / 4, targets), make()(scores, targets))
    (parameter,) = learned.parameters()
    (gradient,) = torch.autograd.grad(learned(scores / 4, targets), parameter)
    step = 1e-2
    above, below = (make(scale=4.0 * math.exp(sign * step))(scores / 4, targets) for sign in (1, -1))
    assert gradient.item() == pytest.approx((above - below).item() / (2 * step), rel=1e-2)
    with pytest.raises(UserError, match=r"loss\.scale=0"):
        make(scale=0.0)


def test_teacher_scores_are_compared_in_fp32() -> None:
    """Student scores in half precision do not lower the precision of the teacher's distribution."""
    targets = torch.tensor([[1000.0, 999.0]])
    loss = KLDivergence()(torch.tensor([[1.0, 0.0]]).half(), targets)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
