"""Run units of work one after the other, skipping those that the journal has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from namm_mm.execution.journal import Journal, Result


class Unit(Protocol):
    """A piece of work that can be done again and gives the same."""

    @property
    def key(self) -> str:
        """Hash of everything that its result depends on."""
        ...


U = TypeVar("U", bound=Unit)


class Serial(Generic[U]):
    """One unit after the other, in this process.

    Parameters
    ----------
    work
        Does one unit; what it returns must be JSON.
    journal
        Where results go, and come from if they are there.
    """

    def __init__(self, work: Callable[[U], Result], journal: Journal) -> None:
        self.work = work
        self.journal = journal

    def run(self, units: Sequence[U], on_done: Callable[[int], None] | None = None) -> list[Result]:
        """Return the results in the order of `units`: all of them, or an exception.

        `on_done(count)` is called after each unit with how many are done.
        """
        results = []
        for unit in units:
            result = self.journal.get(unit.key)
            if result is None:
                result = self.work(unit)
                self.journal.put(unit.key, result)
            results.append(result)
            if on_done is not None:
                on_done(len(results))
        return results
