"""The interface of all retrieval models: they score documents for a query, are saved and loaded."""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from irexp.model.checkpoint import native
from irexp.model.checkpoint.layout import Home, Layout, Reader
from irexp.types import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Model(nn.Module, ABC):
    """A bi-encoder or a cross-encoder.

    A family is a subclass; its class attributes state how it is saved and loaded. By default it is saved in irexp's own
    layout, which writes its `settings`.

    Attributes:
        name: its name in tables and folders.
        query_length: tokens kept per query.
        document_length: tokens kept per document.
        largest_score: the largest absolute score in training, 1 for a cosine; None if there is no bound.
        new_tokens: tokens added to the vocabulary, whose vectors must be trained.
        layout: the format in which it is saved: its home library's, if it has one.
        reads: formats of other libraries whose folders are loaded as this family.
        home: the library that opens the saved checkpoints, too; None if there is none.
        begins_bare: whether a bare transformer can be loaded as this family, if the family is configured.
    """

    name: str
    query_length: int
    document_length: int
    largest_score: float | None = None
    new_tokens: tuple[str, ...] = ()

    layout: ClassVar[Layout] = native
    reads: ClassVar[tuple[Reader, ...]] = ()
    home: ClassVar[Home | None] = None
    begins_bare: ClassVar[bool] = False

    @abstractmethod
    def score(self, query: str | Sequence[str], documents: Sequence[str]) -> Tensor:
        """The scores of documents for a query, outside of training: score_N, or score_BN for several queries."""

    @abstractmethod
    def encoders(self) -> dict[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]]:
        """Its transformers and their tokenizers, by the constructor's parameter for their backbone."""

    def settings(self, *, except_for: Collection[str] = ()) -> dict[str, Any]:
        """The constructor's parameters other than backbones, name and lengths, read from attributes of the same names.

        Args:
            except_for: settings that the layout writes elsewhere.

        Raises:
            UserError: if there is no attribute for a parameter.
        """
        taken = inspect.signature(type(self)).parameters
        names = [key for key in taken if native.is_setting(key) and key not in except_for]
        if lost := [key for key in names if not hasattr(self, key)]:
            raise UserError(
                f"a {type(self).__name__} cannot be saved: its constructor takes {', '.join(lost)}, but there is no "
                f"attribute of that name to save; assign it in the constructor"
            )
        return {key: getattr(self, key) for key in names}

    def known_settings(self) -> dict[str, Any]:
        """The settings that the model remembers, to compare them with a configuration; a subclass adds to them."""
        names = [key for key in inspect.signature(type(self)).parameters if native.is_setting(key)]
        found = {key: getattr(self, key) for key in names if hasattr(self, key)}
        return {key: value for key, value in found.items() if not callable(value)}

    @classmethod
    def family(cls) -> str:
        """Its name in irexp.json: the module's name if it is the only family of one in irexp.model, else its path."""
        package, _, module = cls.__module__.rpartition(".")
        if package == __package__ and families_in(sys.modules[cls.__module__]) == [cls]:
            return module
        return f"{cls.__module__}.{cls.__qualname__}"

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def width(self) -> int:
        """The dimensions of a token in its widest transformer."""
        return max(int(encoder.config.get_text_config().hidden_size) for encoder, _ in self.encoders().values())


def families_in(module: ModuleType) -> list[type[Model]]:
    """The families that a module defines."""
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Model)]
    return [family for family in classes if family.__module__ == module.__name__ and not inspect.isabstract(family)]
