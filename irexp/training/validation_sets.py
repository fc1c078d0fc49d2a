"""A validation on one or several sets of queries, each with its own collection.

Shapes: Q queries of all sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch.utils.data import Dataset

from irexp.dataset.validation_set import ValidationSet
from irexp.model.device import budget_of, device_of
from irexp.model.model import Model
from irexp.training.setup import TrainingSetup
from irexp.training.validation import Validated, Validation, ValidationBatch, make_validation
from irexp.types import UserError

#: The name of `dataset.dev` among several sets.
OWN = "dev"


class Validations(Dataset[ValidationBatch]):
    """The batches of all sets, one set after the other, and their measures."""

    def __init__(self, sets: Mapping[str, Validation]) -> None:
        """Number the batches.

        Args:
            sets: at least one, by name.
        """
        self.sets = dict(sets)
        self._of = [(part, number) for part, each in enumerate(sets.values()) for number in range(len(each))]
        self._collected = [0] * len(sets)
        self._validated: dict[str, Validated] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, number: int) -> ValidationBatch:
        part, within = self._of[number]
        return replace(list(self.sets.values())[part][within], part=part)

    def collect(self, batch: ValidationBatch) -> None:
        """Encode or score a batch; a set is measured after its last one, so that one set's vectors are in memory."""
        name, each = list(self.sets.items())[batch.part]
        each.collect(batch)
        self._collected[batch.part] += 1
        if self._collected[batch.part] == len(each):
            self._validated[name], self._collected[batch.part] = each.measure(), 0

    def measure(self) -> Validated:
        """The measures, after every batch is collected.

        Of several sets each has its own, `<set>/<measure>`, after the means over the sets. The values per query are
        then weighted, so that their mean is the mean over the sets, too: query i of set s by Q / (sets * Q_s).
        """
        found, self._validated = self._validated, {}
        if len(found) == 1:
            return next(iter(found.values()))
        names = next(iter(found.values())).values
        means = {name: float(np.mean([each.values[name] for each in found.values()])) for name in names}
        own = {f"{key}/{name}": value for key, each in found.items() for name, value in each.values.items()}
        total = sum(len(each.value_Q) for each in found.values())
        weighted = [each.value_Q * total / (len(found) * len(each.value_Q)) for each in found.values()]
        return Validated(means | own, np.concatenate(weighted))


def make_validations(model: Model, setup: TrainingSetup) -> Validations | None:
    """The validation of a training; None if it has none.

    Raises:
        UserError: if it has nothing to validate on, or no query of a set has a relevant document.
    """
    if setup.training.validate_every is None:
        return None
    # sorted and without null, as in the identity
    named = {name: each for name, each in sorted(setup.validation.items()) if each is not None}
    if OWN in named and setup.dev is not None:
        raise UserError(f"validation.{OWN}: this is the name of dataset.dev; rename the set")
    if slashed := [name for name in named if "/" in name]:
        raise UserError(
            f"validation.{slashed[0]}: the name has a slash, which separates it from the measure; rename it"
        )
    parts = {OWN: ValidationSet(setup.dev)} | named if setup.dev is not None else named
    if not parts:
        raise UserError(
            "training.validate_every is set, but there is no dataset.dev to validate on; set dataset.dev, or "
            "training.validate_every=null, which keeps the last weights"
        )
    budget = setup.machine.token_budget or budget_of(device_of(setup.machine.accelerator), model.width)
    return Validations(
        {
            name: make_validation(
                part.documents or setup.documents,
                part.topics,
                model,
                setup.training,
                seed=setup.seed,
                token_budget=budget,
                where="dataset.dev" if name == OWN else f"validation.{name}",
            )
            for name, part in parts.items()
        }
    )
