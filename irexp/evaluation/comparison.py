"""How a row of a table is compared with another: a paired test, its correction, and the size of the difference."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from irexp.evaluation.significance import (
    ROUNDING,
    bonferroni,
    holm,
    paired_t_test,
    randomisation_test,
    wilcoxon_test,
)
from irexp.types import UserError

log = logging.getLogger(__name__)

#: The markers of a significant difference.
BETTER, WORSE = "†", "‡"

TESTS = {"t": "paired t-test", "wilcoxon": "Wilcoxon's signed-rank test", "randomisation": "paired randomisation test"}

CORRECTIONS: Mapping[str, Callable[[Sequence[float]], list[float]]] = {
    "holm": holm,
    "bonferroni": bonferroni,
    "none": list,
}


@dataclass(frozen=True)
class Comparison:
    """The comparison of a row with another one, in one column.

    Attributes:
        against: the label of the other row.
        difference: the mean over the queries of this row's value minus the other's.
        p_value: of the test, corrected.
        effect_size: Cohen's d of paired values, mean(d) / s(d) with n - 1 in s (Cohen 1988); infinite for a difference
            that is the same for every query, and 0 for none.
        wins: queries for which this row is better.
        ties: queries for which both are equal.
        losses: queries for which the other one is better.
    """

    against: str
    difference: float
    p_value: float
    effect_size: float
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Significance:
    """The settings of all comparisons of a table.

    Attributes:
        name: "t", "wilcoxon" or "randomisation"; see `irexp.evaluation.significance`.
        alpha: the corrected p-value below which a difference is marked.
        correction: "holm", "bonferroni" or "none", over all comparisons of one column.
        permutations: the number of sign flips of the randomisation test.
    """

    name: str = "t"
    alpha: float = 0.05
    correction: str = "holm"
    permutations: int = 10_000

    def check(self) -> None:
        """Refuse settings that do not exist.

        Raises:
            UserError: naming the setting.
        """
        _check_choice("significance", self.name, list(TESTS))
        _check_choice("correction", self.correction, list(CORRECTIONS))
        if not 0 < self.alpha < 1:
            raise UserError(f"alpha: {self.alpha} must be between 0 and 1; the usual level is 0.05")
        if self.permutations < 1:
            raise UserError(f"permutations: {self.permutations} must be at least 1; the usual number is 10000")

    def warn_if_too_few(self, comparisons: int) -> None:
        """Log a warning if no difference can be significant with so few permutations.

        Args:
            comparisons: the fewest that any column has.
        """
        smallest = CORRECTIONS[self.correction]([1 / (self.permutations + 1)] * comparisons)
        if self.name == "randomisation" and smallest and smallest[0] >= self.alpha:
            log.warning(
                "%d permutations are too few for any difference to be significant at %g", self.permutations, self.alpha
            )

    def describe(self) -> str:
        """The test and its correction, in words."""
        flips = f" ({self.permutations} permutations)" if self.name == "randomisation" else ""
        correction = "no" if self.correction == "none" else self.correction.capitalize()
        return f"two-sided {TESTS[self.name]}{flips}, {correction} correction"

    def compare(
        self, values: Sequence[Sequence[float] | None], labels: Sequence[str], references: Sequence[int]
    ) -> list[Comparison | None]:
        """Compare each row of a column with its reference.

        Args:
            values: per row, the values of all queries, in the same order; None if the row was not measured.
            labels: of the rows.
            references: per row, the position of the row that it is compared with; its own for none.
        """
        found: list[Comparison | None] = [None] * len(values)
        pairs = [
            (row, reference, ours, theirs)
            for row, (ours, reference) in enumerate(zip(values, references, strict=True))
            if row != reference and ours is not None and (theirs := values[reference]) is not None
        ]
        p_values = CORRECTIONS[self.correction]([self._p_value(ours, theirs) for _, _, ours, theirs in pairs])
        for (row, reference, ours, theirs), p_value in zip(pairs, p_values, strict=True):
            d = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
            d[np.abs(d) < ROUNDING] = 0.0
            found[row] = Comparison(
                labels[reference],
                float(d.mean()),
                p_value,
                _effect_size(d),
                int((d > 0).sum()),
                int((d == 0).sum()),
                int((d < 0).sum()),
            )
        return found

    def _p_value(self, a: Sequence[float], b: Sequence[float]) -> float:
        if self.name == "randomisation":
            return randomisation_test(a, b, permutations=self.permutations)
        return wilcoxon_test(a, b) if self.name == "wilcoxon" else paired_t_test(a, b)


def _effect_size(d: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    if not d.any():
        return 0.0
    deviation = d.std(ddof=1) if len(d) > 1 else 0.0
    return float(d.mean() / deviation) if deviation >= ROUNDING else float(np.copysign(np.inf, d.mean()))


def _check_choice(name: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        nearest = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise UserError(f"{name}: {value!r} is not one of {', '.join(choices)}{hint}")
