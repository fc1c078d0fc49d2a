"""The smallest numbers that the settings of an engine may be: checked when it is made, before anything is encoded."""

from __future__ import annotations

from collections.abc import Mapping

from irexp.types import UserError


def check_least(least: float, settings: Mapping[str, float | None]) -> None:
    """Refuse numbers that are too small, with which an engine would silently find nothing, or fail much later.

    Args:
        least: the smallest number that is allowed.
        settings: the value of each setting below `index`, such as `terms` or `search.probes`; None is always allowed.

    Raises:
        UserError: naming the setting.
    """
    for name, value in settings.items():
        if value is not None and not value >= least:  # so written, it refuses NaN, too
            raise UserError(f"index.{name}={value}: it must be at least {least:g}")


def check_fractions(settings: Mapping[str, float]) -> None:
    """Refuse numbers that are not above 0 and at most 1.

    Args:
        settings: as in `check_least`.

    Raises:
        UserError: naming the setting.
    """
    for name, value in settings.items():
        if not 0 < value <= 1:
            raise UserError(f"index.{name}={value}: it must be above 0 and at most 1")
