"""Scores so far, one line for each policy of the cell that is running."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

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
    """Tallies of one cell, by metric, policy and budget; metrics are never averaged together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._metric = "score"  # of records that name none, such as a failed one
        self._tallies: dict[str, dict[str, Tally]] = {}

    def add(self, record: Record) -> None:
        """Count one record."""
        policy = record.policy if record.budget == "full" else f"{record.policy} {record.budget}"
        self._metric = record.metric or self._metric
        self._tallies.setdefault(self._metric, {}).setdefault(policy, Tally()).add(record)

    def __bool__(self) -> bool:
        return bool(self._tallies)

    def line(self) -> str:
        """All on one line: ``accuracy: full 0.900 (n 10), namm threshold 0.700 (n 10)``."""
        parts = []
        for metric, tallies in self._tallies.items():
            shown = [
                f"{policy} {tally.score} (n {tally.n}"
                + (f", {tally.failed} failed)" if tally.failed else ")")
                for policy, tally in tallies.items()
            ]
            parts.append(f"{metric.replace('_', ' ')}: {', '.join(shown)}")
        return "; ".join(parts)

    def table(self) -> Table:
        """A table, one row for each policy and metric."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column(self.name)
        alone = next(iter(self._tallies), self._metric) if len(self._tallies) < 2 else ""
        score = alone.replace("_", " ") or "score"
        for name in ("n", "failed", f"{score} so far", "kept", "each"):
            table.add_column(name, justify="right")
        for metric, tallies in self._tallies.items():
            for policy, tally in tallies.items():
                name = policy if alone else f"{policy}, {metric.replace('_', ' ')}"
                table.add_row(*_cells(name, tally, bold=policy.startswith("namm")))
        return table


def _cells(name: str, tally: Tally, *, bold: bool) -> tuple[Text | str, ...]:
    """Return one row of the table."""
    from rich.text import Text

    count = max(tally.n, 1)
    return (
        Text(name),
        str(tally.n),
        Text(str(tally.failed) if tally.failed else "", style="red"),
        Text(tally.score, style="bold" if bold else ""),
        f"{100 * tally.kept / count:.0f} %" if tally.n else "-",
        f"{tally.seconds / count:.2f} s" if tally.n else "-",
    )
