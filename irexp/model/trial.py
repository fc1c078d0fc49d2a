"""Whether a model can be saved and opened again: found out before it is trained, not after.

It is saved as it comes, opened, and both score a query. Weights beside the transformer may begin as constants (a bias,
a weight of one for each word): they are moved for the trial, so that it is seen if one is not saved. Of a model of more
than 512 MiB one layer is tried, of random weights.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from irexp.backbone.backbone import Backbone
from irexp.backbone.one_layer import OneLayer
from irexp.model.adapter import write_recipe
from irexp.model.checkpoint.native import rest_of
from irexp.model.load import load, save
from irexp.model.model import Model
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Bytes of weights up to which the model itself is tried, as of a BERT-base: a second or two for a disk.
LARGEST = 2**29

_QUERY = "how do I list all buckets"
_DOCUMENTS = ("List buckets: returns a list of all buckets.", "Stop instances.")


def check_saving(model: Model, configured: partial[Model] | None, folder: Path, *, largest: int = LARGEST) -> None:
    """Save a model and open it again; random numbers and the model are left as they were.

    Args:
        model: as it will be trained, without adapters.
        configured: what made it; None if that is not known, and then a larger model is not tried.
        folder: where the trial is made, and removed again.
        largest: bytes of weights of a model that is saved whole.

    Raises:
        UserError: naming the family and its transformer, if what is opened is another model, or nothing is.
    """
    start = time.perf_counter()
    place = folder / ".trial"
    shutil.rmtree(place, ignore_errors=True)  # of a process that was killed in it
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    if configured is None and size > largest:
        return
    try:
        with torch.random.fork_rng(devices=[]):
            tried = model if configured is None or size <= largest else _cut_down(configured)
            with _moved(rest_of(tried)):
                save(tried, place)
                if configured is not None:
                    write_recipe(place / "adapter", configured)
                _compare(tried, load(place, like=configured))
    except OSError:
        raise  # a full disk
    except Exception as error:
        kinds = ", ".join(dict.fromkeys(type(encoder).__name__ for encoder, _ in model.encoders().values()))
        raise UserError(
            f"model={model.name}: a {type(model).__name__} on a {kinds} cannot be saved and opened again, so nothing "
            f"is trained; another backbone may do. {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    log.info("fit: it can be saved and opened again (%.1f s)", time.perf_counter() - start)


def _cut_down(configured: partial[Model]) -> Model:
    """The model with one layer."""
    backbones = {key: OneLayer(value) for key, value in configured.keywords.items() if isinstance(value, Backbone)}
    return configured.func(**(configured.keywords | backbones))


@contextmanager
def _moved(weights: dict[str, Tensor]) -> Iterator[None]:
    """Have weights moved a little, each its own way, and put back."""
    before = {name: value.clone() for name, value in weights.items() if value.is_floating_point()}
    for name, value in before.items():
        weights[name].add_(0.1 * torch.rand_like(value))
    try:
        yield
    finally:
        for name, value in before.items():
            weights[name].copy_(value)


def _compare(saved: Model, opened: Model) -> None:
    """Hold what was opened to what was saved.

    Raises:
        UserError: naming what differs.
    """
    if type(opened) is not type(saved):
        raise UserError(f"it is opened as a {type(opened).__name__}")
    weights, found = saved.state_dict().keys(), opened.state_dict().keys()
    if weights != found:
        raise UserError(f"it is opened without {sorted(weights - found)[:4]}, with {sorted(found - weights)[:4]}")
    for key in ("name", "query_length", "document_length"):
        if getattr(opened, key) != getattr(saved, key):
            raise UserError(f"its {key} is opened as {getattr(opened, key)}, and was {getattr(saved, key)}")
    score_N, found_N = saved.score(_QUERY, _DOCUMENTS), opened.score(_QUERY, _DOCUMENTS)
    coarsest = max(torch.finfo(p.dtype).eps for p in saved.parameters() if p.is_floating_point())
    bound = max(1e-4, 16 * coarsest) * max(1.0, float(score_N.abs().max()))
    if not float((found_N - score_N).abs().max()) <= bound:
        raise UserError(f"it scores {found_N.tolist()} where it scored {score_N.tolist()}")
