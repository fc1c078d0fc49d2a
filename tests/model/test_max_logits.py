"""Pooling over logits in chunks."""

from __future__ import annotations

import pytest
import torch

from irexp.model.max_logits import max_logits, sum_activations


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("has_bias", [True, False])
def test_chunked_pooling_has_the_values_and_gradients_of_unchunked_pooling(
    monkeypatch: pytest.MonkeyPatch, pooling: str, has_bias: bool
) -> None:
    """Also with masked tokens at the start, in the middle and at the end."""
    for name in ("_CHUNK_VALUES", "_PROCESSOR_VALUES"):
        monkeypatch.setattr(f"irexp.model.max_logits.{name}", 40)
    torch.manual_seed(0)
    hidden_BLH, weight_VH, bias_V = torch.randn(3, 5, 4), torch.randn(11, 4), torch.randn(11)
    mask_BL = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 1, 1, 1, 0]])
    found = []
    for is_chunked in (True, False):
        inputs = [tensor.clone().requires_grad_() for tensor in (hidden_BLH, weight_VH, bias_V)]
        bias = inputs[2] if has_bias else None
        if is_chunked and pooling == "max":
            pooled = torch.relu(max_logits(inputs[0], inputs[1], bias, mask_BL))
        elif is_chunked:
            pooled = sum_activations(inputs[0], inputs[1], bias, mask_BL, torch.relu)
        else:
            logits = inputs[0] @ inputs[1].T + (0 if bias is None else bias)
            left_out = ~mask_BL.bool()[:, :, None]
            pooled = (
                torch.relu(logits.masked_fill(left_out, -torch.inf).amax(dim=1))
                if pooling == "max"
                else torch.relu(logits).masked_fill(left_out, 0.0).sum(dim=1)
            )
        torch.autograd.backward(pooled.square().sum())
        found.append([pooled.detach(), *(tensor.grad for tensor in inputs if tensor.grad is not None)])
    assert len(found[0]) == 4 if has_bias else 3
    for ours, naive in zip(*found, strict=True):
        torch.testing.assert_close(ours, naive)
