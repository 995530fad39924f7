"""What is told how a run goes; a terminal shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from namm_mm.records import Record


class Progress(Protocol):
    """Is told how a run goes."""

    def say(self, text: str) -> None:
        """Say one line."""
        ...

    def begin(self, name: str, total: int, unit: str = "records") -> None:
        """Start to count the `total` records (or other units) of the cell `name`."""
        ...

    def advance(self, record: Record | None = None) -> None:
        """One more unit; a `record` is counted in the scores so far."""
        ...

    def detail(self, text: str) -> None:
        """What is going on within the present record."""
        ...


class Silent:
    """Say nothing: the default of the Python API."""

    def say(self, text: str) -> None:
        """See :class:`Progress`."""

    def begin(self, name: str, total: int, unit: str = "records") -> None:
        """See :class:`Progress`."""

    def advance(self, record: Record | None = None) -> None:
        """See :class:`Progress`."""

    def detail(self, text: str) -> None:
        """See :class:`Progress`."""
