"""A check, before training, that a model can be saved and loaded again.

The untrained model is saved and loaded, and both score a query. Weights outside the transformer may start as constants
(a bias, a weight of one per word): the check changes them temporarily, so that a weight that is not saved is noticed.
For models above 512 MiB the check uses a copy with a single layer of random weights.
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

#: The largest size in bytes at which the model itself is checked: a BERT-base, a second or two for a disk.
LARGEST = 2**29

_QUERY = "how do I list all buckets"
_DOCUMENTS = ("List buckets: returns a list of all buckets.", "Stop instances.")


def check_saving(model: Model, configured: partial[Model] | None, folder: Path, *, largest: int = LARGEST) -> None:
    """Save a model and load it again; the model and the random state are left unchanged.

    Args:
        model: the model to train, without adapters.
        configured: the partial that made it; None if it was loaded, and then a larger model is not tried.
        folder: holds the temporary checkpoint, which is removed.
        largest: the largest size in bytes at which the model itself is saved, rather than a copy with one layer.

    Raises:
        UserError: naming the family and its transformer, if loading fails or gives a different model.
    """
    start = time.perf_counter()
    place = folder / ".trial"
    shutil.rmtree(place, ignore_errors=True)  # left by a killed process
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    if configured is None and size > largest:
        return
    try:
        with torch.random.fork_rng(devices=[]):
            tried = model if configured is None or size <= largest else _cut_down(configured)
            with _perturbed(rest_of(tried)):
                save(tried, place)
                if configured is not None:
                    write_recipe(place / "adapter", configured)
                _compare(tried, load(place, like=configured or partial(type(model))))
    except OSError:
        raise  # a full disk
    except Exception as error:
        kinds = ", ".join(dict.fromkeys(type(encoder).__name__ for encoder, _ in model.encoders().values()))
        raise UserError(
            f"model={model.name}: a {type(model).__name__} on a {kinds} cannot be saved and loaded again, so it is not "
            f"trained; try another backbone. {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    log.info("fit: the model can be saved and loaded again (%.1f s)", time.perf_counter() - start)


def _cut_down(configured: partial[Model]) -> Model:
    """The model with one layer."""
    backbones = {key: OneLayer(value) for key, value in configured.keywords.items() if isinstance(value, Backbone)}
    return configured.func(**(configured.keywords | backbones))


@contextmanager
def _perturbed(weights: dict[str, Tensor]) -> Iterator[None]:
    """Add a little noise to weights, and restore them afterwards."""
    before = {name: value.clone() for name, value in weights.items() if value.is_floating_point()}
    for name, value in before.items():
        weights[name].add_(0.1 * torch.rand_like(value))
    try:
        yield
    finally:
        for name, value in before.items():
            weights[name].copy_(value)


def _compare(saved: Model, opened: Model) -> None:
    """Compare the loaded model with the saved one.

    Raises:
        UserError: naming the difference.
    """
    if type(opened) is not type(saved):
        raise UserError(f"it is loaded as a {type(opened).__name__}")
    weights, found = saved.state_dict().keys(), opened.state_dict().keys()
    if weights != found:
        raise UserError(
            f"it is loaded without the weights {sorted(weights - found)[:4]} and with the additional weights "
            f"{sorted(found - weights)[:4]}"
        )
    for key in ("name", "query_length", "document_length"):
        if getattr(opened, key) != getattr(saved, key):
            raise UserError(f"its {key} was saved as {getattr(saved, key)} and loaded as {getattr(opened, key)}")
    score_N, found_N = saved.score(_QUERY, _DOCUMENTS), opened.score(_QUERY, _DOCUMENTS)
    coarsest = max(torch.finfo(p.dtype).eps for p in saved.parameters() if p.is_floating_point())
    bound = max(1e-4, 16 * coarsest) * max(1.0, float(score_N.abs().max()))
    if not float((found_N - score_N).abs().max()) <= bound:
        raise UserError(f"its scores were {score_N.tolist()} before and are {found_N.tolist()} after loading")
