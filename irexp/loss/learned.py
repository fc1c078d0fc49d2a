"""What a loss has learnt in training, beside a checkpoint: a second round begins with it, as with the weights."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from irexp.loss.scale import Scale
from irexp.types import UserError

log = logging.getLogger(__name__)

#: A file of a checkpoint: `{"scale": {"KLDivergence": 17.3}}`.
LEARNED = "loss.json"


def save_learned(loss: nn.Module, folder: Path) -> None:
    """Write the trained scales of a loss or a sum of losses into a checkpoint's folder; nothing if it has none."""
    scales = {name: scale.value for name, scale in _trained(loss)}
    if scales:
        (folder / LEARNED).write_text(json.dumps({"scale": scales}, indent=2) + "\n", encoding="utf8")


def continue_from(loss: nn.Module, folder: Path) -> None:
    """Begin the trained scales of a loss where those of the same kind of loss ended, which made a checkpoint.

    Args:
        loss: a loss or a sum of losses.
        folder: of the checkpoint; nothing changes if it has no such file.

    Raises:
        UserError: if the file is damaged.
    """
    path = folder / LEARNED
    if not path.is_file():
        return
    try:
        scales = json.loads(path.read_text(encoding="utf8"))["scale"]
        ended = {str(name): float(value) for name, value in scales.items()}
        logarithms = {name: math.log(value) for name, value in ended.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it to begin with loss.scale") from None
    for name, scale in _trained(loss):
        if name in logarithms and scale.logarithm is not None:
            log.info("loss: the scale of %s begins at %.4g, where that of %s ended", name, ended[name], folder)
            with torch.no_grad():
                scale.logarithm.fill_(logarithms[name])


def _trained(loss: nn.Module) -> Iterator[tuple[str, Scale]]:
    for part in loss.modules():
        scale = getattr(part, "scale", None)
        if isinstance(scale, Scale) and scale.is_learned:
            yield type(part).__name__, scale
