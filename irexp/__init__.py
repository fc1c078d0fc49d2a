"""Experiments with transformer retrieval models: `from irexp import load`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irexp.model.load import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import what is public when it is used, so that `run.py --help` does not wait for torch."""
    if name == "load":
        from irexp.model.load import load

        return load
    raise AttributeError(f"module 'irexp' has no attribute {name!r}")
