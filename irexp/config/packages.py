"""The packages whose classes and functions may be named, by a configuration or by a checkpoint.

A configuration, a checkpoint and a command line may come from someone else, so none of them can add a package. Whoever
installs a package or sets the environment runs its code anyway, and can.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from importlib.metadata import entry_points

#: The entry points that declare a package; the value of each names it.
GROUP = "irexp.components"

#: The environment variable that names packages, separated by commas.
VARIABLE = "IREXP_PACKAGES"

#: The end of a refusal.
HOW_TO_DECLARE = (
    f"a package of your own is declared by an entry point in the group {GROUP}, or named in the environment variable "
    f"{VARIABLE}"
)

#: What a configuration may name besides irexp: optimizers, adapters, launchers and sweepers with their parts.
_WELL_KNOWN = ("torch", "peft", "hydra", "hydra_plugins", "optuna")


def packages_of_components() -> tuple[str, ...]:
    """The packages of which a checkpoint may name a class: irexp and those that are declared."""
    return ("irexp", *_declared())


def packages_of_targets() -> tuple[str, ...]:
    """The packages of which a `_target_` may name something."""
    return ("irexp", *_WELL_KNOWN, *_declared())


def is_declared(path: str) -> bool:
    """Whether a dotted path leads into a package that is neither irexp nor well known but was declared."""
    return is_in(path, _declared()) and not is_in(path, ("irexp", *_WELL_KNOWN))


def is_in(path: str, packages: Iterable[str]) -> bool:
    """Whether a dotted path is one of some packages, or leads into one.

    >>> is_in("lab.losses.Hinge", ["lab"]), is_in("laboratory.Hinge", ["lab"])
    (True, False)
    """
    return any(f"{path}.".startswith(f"{package}.") for package in packages)


def _declared() -> tuple[str, ...]:
    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return (*_installed(), *(name for name in named if name))


@functools.cache
def _installed() -> tuple[str, ...]:
    """Those that declare themselves; looking through what is installed takes tens of milliseconds."""
    return tuple(sorted({point.module for point in entry_points(group=GROUP)}))
