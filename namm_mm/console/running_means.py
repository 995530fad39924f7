"""Scores so far, one line for each policy of the cell that is running."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from namm_mm.records import Record


@dataclass
class Tally:
    """Sums over the records of one policy."""

    n: int = 0
    failed: int = 0
    total: float = 0.0
    kept: float = 0.0
    seconds: float = 0.0

    def add(self, record: Record) -> None:
        """Count one record."""
        if record.error or record.value is None or not math.isfinite(record.value):
            self.failed += 1
            return
        self.n += 1
        self.total += record.value
        self.seconds += record.seconds
        if record.memory is not None:
            self.kept += record.memory.kept_fraction or 0.0

    @property
    def score(self) -> str:
        """Mean score; a dash before the first one."""
        if not self.n:
            return "-"
        mean = self.total / self.n
        return f"{mean:.1f}" if abs(mean) >= 10 else f"{mean:.3f}"


class RunningMeans:
    """Tallies of one cell, by policy and budget."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.metric = "score"
        self._tallies: dict[str, Tally] = {}

    def add(self, record: Record) -> None:
        """Count one record."""
        policy = record.policy if record.budget == "full" else f"{record.policy} {record.budget}"
        self._tallies.setdefault(policy, Tally()).add(record)
        self.metric = record.metric or self.metric

    def __bool__(self) -> bool:
        return bool(self._tallies)

    def line(self) -> str:
        """All on one line: ``accuracy: full 0.900 (n 10), namm threshold 0.700 (n 10)``."""
        parts = [
            f"{policy} {tally.score} (n {tally.n}"
            + (f", {tally.failed} failed)" if tally.failed else ")")
            for policy, tally in self._tallies.items()
        ]
        return f"{self.metric.replace('_', ' ')}: {', '.join(parts)}"

    def table(self) -> Table:
        """A table, one row for each policy."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column(self.name)
        for name in ("n", "failed", f"{self.metric.replace('_', ' ')} so far", "kept", "each"):
            table.add_column(name, justify="right")
        for policy, tally in self._tallies.items():
            count = max(tally.n, 1)
            table.add_row(
                Text(policy),
                str(tally.n),
                Text(str(tally.failed) if tally.failed else "", style="red"),
                Text(tally.score, style="bold" if policy.startswith("namm") else ""),
                f"{100 * tally.kept / count:.0f} %" if tally.n else "-",
                f"{tally.seconds / count:.2f} s" if tally.n else "-",
            )
        return table
