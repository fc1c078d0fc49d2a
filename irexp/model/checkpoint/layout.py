"""What a layout is: how the folders of one library are recognised, read and written.

Each is a module of this package, which knows a library's files and no model: the family that a folder is read as is
handed to it. A family names its layouts beside its model (`irexp.model.model.Model`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from irexp.model.checkpoint.files import Content, Wanted


class Reader(Protocol):
    """A layout that is read."""

    def recognises(self, content: Content) -> bool:
        """Whether a folder without irexp.json has this layout, by its files and the names of its weights."""

    def load(self, family: Any, folder: Path, wanted: Wanted) -> Any:
        """Open a folder as a model of a family; a weight that is missing or left over is a UserError."""


class Layout(Reader, Protocol):
    """A layout that is also written."""

    def save(self, model: Any, folder: Path) -> None:
        """Write a model into a folder that is there."""


class Home(NamedTuple):
    """The library in whose layout a family is saved, for the model card.

    Attributes:
        library: its name.
        package: what is imported of it.
        opener: what of the package is called with the checkpoint's name.
    """

    library: str
    package: str
    opener: str

    def lines(self, name: str) -> list[str]:
        """The Python lines that open a checkpoint there."""
        return [f"from {self.package} import {self.opener.partition('.')[0]}", f'{self.opener}("{name}")']
