"""The interface of a layout: how checkpoint folders of one library are recognised, loaded and saved.

Each layout is a module of this package. It knows a library's files but imports no model: it is given the family that a
folder is loaded as. A family names its layouts as class attributes (`irexp.model.model.Model`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from irexp.model.checkpoint.files import Content, Wanted


class Reader(Protocol):
    """A layout that can be loaded."""

    def recognises(self, content: Content) -> bool:
        """Whether a folder without irexp.json has this layout, judged by its files and the names of its weights."""

    def load(self, family: Any, folder: Path, wanted: Wanted) -> Any:
        """Load a folder as a model of a family; a missing or unexpected weight is a UserError."""


class Layout(Reader, Protocol):
    """A layout that can be loaded and saved."""

    def save(self, model: Any, folder: Path) -> None:
        """Write a model into an existing folder."""


class Home(NamedTuple):
    """The library in whose layout a family is saved, for the model card.

    Attributes:
        library: its name.
        package: the package to import.
        opener: the class of the package that is called with the checkpoint's name.
        calls: lines that encode texts with `model`, where the library's plain call would give other vectors.
    """

    library: str
    package: str
    opener: str
    calls: tuple[str, ...] = ()

    def lines(self, name: str) -> list[str]:
        """The Python lines that load and call a checkpoint with this library."""
        opened = f'{self.opener}("{name}")'
        imported = f"from {self.package} import {self.opener.partition('.')[0]}"
        return [imported, f"model = {opened}", *self.calls] if self.calls else [imported, opened]
