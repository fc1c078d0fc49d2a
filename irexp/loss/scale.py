"""The factor of a student's scores, where a teacher's have another scale: a cosine has a range of 2, a logit has none.

s = a s_student         a: a constant, or trained as exp(log a) like the logit scale of CLIP (arXiv:2103.00020)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from irexp.types import UserError

#: The peak learning rate of a trained scale: about 1 % per step of Adam. The model's own, 2e-5, would not move it.
LEARNING_RATE = 0.01


class Scale(nn.Module):
    """Multiplies scores; without a factor it only converts them to fp32."""

    def __init__(self, scale: float | None, learn_scale: bool | None) -> None:
        """A constant, or one parameter, which is trained and resumed with the model.

        Args:
            scale: the factor, or where training begins; None for 1.
            learn_scale: whether it is trained; None for no.
        """
        super().__init__()
        if scale is not None and not scale > 0:
            raise UserError(f"loss.scale={scale}: it multiplies the student's scores and must be above 0")
        self.start, self.is_learned = 1.0 if scale is None else scale, bool(learn_scale)
        # of one element, not a scalar, so that it can be sharded
        self.logarithm = nn.Parameter(torch.tensor([math.log(self.start)])) if self.is_learned else None

    @property
    def value(self) -> float:
        """The factor."""
        return self.start if self.logarithm is None else math.exp(self.logarithm.item())

    def forward(self, score_BN: Tensor) -> Tensor:
        """The scores times the factor, in fp32."""
        if self.logarithm is not None:
            return score_BN.float() * self.logarithm.exp()
        return score_BN.float() * self.start if self.start != 1.0 else score_BN.float()
