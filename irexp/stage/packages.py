"""Packages of optional extras are looked for before a job's first step, not hours later by the step that needs one.

A component that needs more than the default installation has a method `require_packages`, which raises a UserError with
the command that installs what is missing. A precision of int8 needs packages, too, and a processor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from irexp.artifact.plan import Step
from irexp.artifact.values import select
from irexp.config.built import built

#: The precision in which a stage's model computes, by stage.
_PRECISIONS = {"encode": "encoding.precision", "re_rank": "re_rank.precision", "score": "score.precision"}


def require_packages(steps: Iterable[Step]) -> None:
    """Find the packages of all components that the steps use.

    Raises:
        UserError: naming the command that installs what is missing; or if a step would compute in int8 on a GPU, or
            with a model that cannot.
    """
    steps = list(steps)
    for component in components_with("require_packages", steps):
        component.require_packages()
    for step in steps:
        assert step.stage is not None
        setting = _PRECISIONS.get(step.stage.name)
        if setting is not None and OmegaConf.select(step.experiment.config, setting) == "int8":
            _require_int8(setting, step.experiment.config)


def _require_int8(setting: str, config: DictConfig) -> None:
    from irexp.backbone.int8 import check_int8
    from irexp.model.device import device_of
    from irexp.pipeline.precision import check_family

    check_int8(device_of(config.machine.accelerator), setting)
    if "_target_" in config.model:
        check_family(setting, "int8", get_object(config.model._target_))


def components_with(method: str, steps: Iterable[Step], *, package: str = "") -> Iterator[Any]:
    """The components that the steps use and that have a method; the others are not instantiated.

    Args:
        method: the method's name.
        steps: all of them make an artifact.
        package: only components whose class is in it are looked at; the others are not even imported.
    """
    for node in component_nodes(steps):
        target = str(node["_target_"])
        if target.startswith(package) and hasattr(get_object(target), method):
            yield built(node)


def component_nodes(steps: Iterable[Step]) -> Iterator[DictConfig]:
    """The nodes of the components that steps use, those of equal settings once.

    A backbone is used only to make a checkpoint, which all else is made from.
    """
    seen: set[tuple[str, str]] = set()
    for step in steps:
        assert step.stage is not None
        for setting in step.stage.settings:
            is_used = setting.path != "model" or step.stage.makes == "checkpoint"
            if not is_used or not setting.when(step.experiment.values):
                continue
            content = setting.path, json.dumps(select(step.experiment.values, setting.path), default=str)
            if content not in seen:
                seen.add(content)
                yield from _nodes(OmegaConf.select(step.experiment.config, setting.path))


def _nodes(value: Any) -> Iterator[DictConfig]:
    if isinstance(value, DictConfig):
        if "_target_" in value:
            yield value
        for key in value:
            yield from _nodes(value[key])
