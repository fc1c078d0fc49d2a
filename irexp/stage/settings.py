"""Settings that a constructor refuses are found before a job's first step, not hours later by the step they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hydra.utils import get_object

from irexp.artifact.plan import Step
from irexp.artifact.values import is_taught
from irexp.config.built import built
from irexp.config.schema import RECORDS
from irexp.stage.packages import component_nodes
from irexp.types import UserError

#: The packages whose components are made only to see whether they can be; they are small, and read nothing.
_CHECKED = ("irexp.dataset.", "irexp.index.", "irexp.loss.", "irexp.regularizer.")


def require_settings(steps: Sequence[Step]) -> None:
    """Make each collection, engine, loss and regularizer that the steps use, once, and compare those of a training.

    Raises:
        UserError: with the message of every one that refuses its settings.
    """
    faults = dict.fromkeys(_faults(steps))
    if faults:
        raise UserError("\n".join(faults))


def _faults(steps: Sequence[Step]) -> Iterator[str]:
    for node in component_nodes(steps):
        if str(node["_target_"]).startswith(_CHECKED):
            try:
                built(node)
            except UserError as error:
                yield str(error)
    for step in steps:
        if step.trains:
            try:
                _check_training(step)
            except UserError as error:
                yield str(error)


def _check_training(step: Step) -> None:
    """Compare the settings of a training; its model is known unless it begins from a checkpoint."""
    from irexp.training.settings import check_settings  # torch and Lightning take seconds to import

    config, values = step.experiment.config, step.experiment.values
    is_known = step.inputs["initial"] is None and "_target_" in config.model
    check_settings(
        get_object(config.model._target_) if is_known else None,
        built(config.loss),
        regularizer=built(config.regularizer),
        false_negatives=RECORDS["false_negatives"](**values["false_negatives"]),
        training=RECORDS["training"](**values["training"]),
        machine=RECORDS["machine"](**values["machine"]),
        optimizer=built(config.optimizer),
        is_taught=is_taught(values),
    )
