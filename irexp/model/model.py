"""What every retrieval model is: something with a name that scores documents against a query, is saved and opened."""

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

    A family is a subclass and says here how it is saved and opened; one that says nothing is saved in irexp's own
    layout, for which it needs `settings`.

    Attributes:
        name: what tables and folders call it.
        query_length: tokens of a query that are read.
        document_length: tokens of a document that are read.
        new_tokens: what the vocabulary was enlarged by, with vectors that must be trained.
        layout: how it is saved, and opened again: that of its home library, where it has one.
        reads: the layouts that a folder of another library is recognised by as one of this family.
        home: the library that opens what is saved here; None for none.
        begins_bare: whether a transformer with nothing beside it is a model of this family, if that is configured.
    """

    name: str
    query_length: int
    document_length: int
    new_tokens: tuple[str, ...] = ()

    layout: ClassVar[Layout] = native
    reads: ClassVar[tuple[Reader, ...]] = ()
    home: ClassVar[Home | None] = None
    begins_bare: ClassVar[bool] = False

    @abstractmethod
    def score(self, query: str | Sequence[str], documents: Sequence[str]) -> Tensor:
        """How well documents answer a query: score_N, or score_BN for several queries; outside of training."""

    @abstractmethod
    def encoders(self) -> dict[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]]:
        """Its transformers and their tokenizers, by the constructor's name of the backbone that each comes from."""

    def settings(self, *, besides: Collection[str] = ()) -> dict[str, Any]:
        """What the constructor takes beside backbones, name and lengths: the attributes of the same names.

        Args:
            besides: settings that the layout says elsewhere.

        Raises:
            UserError: if one is not kept.
        """
        taken = inspect.signature(type(self)).parameters
        names = [key for key in taken if not native.is_given(key) and key not in besides]
        if lost := [key for key in names if not hasattr(self, key)]:
            raise UserError(
                f"a {type(self).__name__} cannot be saved: its constructor takes {', '.join(lost)} and keeps no "
                f"attribute of that name, so that no checkpoint would say it"
            )
        return {key: getattr(self, key) for key in names}

    @classmethod
    def family(cls) -> str:
        """What irexp.json calls it: the path of its class; where a module of irexp.model holds no other, its name."""
        package, _, module = cls.__module__.rpartition(".")
        if package == __package__ and families_in(sys.modules[cls.__module__]) == [cls]:
            return module
        return f"{cls.__module__}.{cls.__qualname__}"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


def families_in(module: ModuleType) -> list[type[Model]]:
    """The families that a module defines."""
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Model)]
    return [family for family in classes if family.__module__ == module.__name__ and not inspect.isabstract(family)]
