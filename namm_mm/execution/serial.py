"""Run units of work one after the other, skipping those that the journal has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from namm_mm.execution.base import OnDone, Result, Results, U, Unit, Work

__all__ = ["Serial", "Unit"]


class Serial(Generic[U]):
    """One unit after the other, in this process.

    Parameters
    ----------
    work
        Does one unit.
    journal
        Where results go, and come from if they are there.
    """

    def __init__(self, work: Work[U], journal: Results) -> None:
        self.work = work
        self.journal = journal

    def run(self, units: Sequence[U], on_done: OnDone | None = None) -> list[Result]:
        """See :class:`~namm_mm.execution.base.Execution`."""
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

    def close(self) -> None:
        """Nothing is held but the work."""
