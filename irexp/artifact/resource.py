"""What an experiment reads from a network: fetched once, by `stage=prepare` or by the first stage that reads it.

A component that reads such a thing has a method `resources`, which lists it and reads nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod


class Resource(ABC):
    """A part of a collection, or a model of the hub; equal ones are the same."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name in a list."""

    def require(self) -> None:  # noqa: B027 - most are only known not to exist once their network was asked
        """Called before anything is made; asks no network.

        Raises:
            UserError: if it is known not to exist; says what to use instead.
        """

    @abstractmethod
    def is_here(self) -> bool:
        """Whether all of it is on this machine; asks no network."""

    @abstractmethod
    def bytes_here(self) -> int | None:
        """Its bytes on this machine; None if its library does not say where it is."""

    @abstractmethod
    def fetch(self) -> None:
        """Fetch what is not on this machine.

        Raises:
            UserError: in one line, why it cannot be fetched.
        """
