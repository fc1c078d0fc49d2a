"""Settings that a constructor refuses are found before a job's first step, not hours later by the step they are of."""

from __future__ import annotations

from collections.abc import Sequence

from irexp.artifact.plan import Step
from irexp.config.built import built
from irexp.stage.packages import component_nodes
from irexp.types import UserError

#: The packages whose components are made only to see whether they can be; they are small, and read nothing.
_CHECKED = ("irexp.dataset.", "irexp.index.", "irexp.loss.", "irexp.regularizer.")


def require_settings(steps: Sequence[Step]) -> None:
    """Make each collection, engine, loss and regularizer that the steps use, once.

    Raises:
        UserError: with the message of every one that refuses its settings.
    """
    faults: dict[str, None] = {}
    for node in component_nodes(steps):
        if str(node["_target_"]).startswith(_CHECKED):
            try:
                built(node)
            except UserError as error:
                faults[str(error)] = None
    if faults:
        raise UserError("\n".join(faults))
