"""Experiments with transformer retrieval models: `from irexp import load, save`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irexp.model.load import load, save

__all__ = ["load", "save"]


def __getattr__(name: str) -> Any:
    """Import what is public when it is used, so that `run.py --help` does not wait for torch."""
    if name in __all__:
        from irexp.model import load as module

        return getattr(module, name)
    raise AttributeError(f"module 'irexp' has no attribute {name!r}")
