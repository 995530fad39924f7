"""The result table that a run prints at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from namm_mm.records import Record
from namm_mm.results import words
from namm_mm.results.rows import FULL, NAMM, Cell, Row, result_rows

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from namm_mm.results.statistics import Interval

WIDE = 145
"""From this many columns on, an interval stands beside its mean; below, under it."""


class ResultTable:
    """A renderable: one table for each cell, then what a reader must know."""

    def __init__(self, rows: Sequence[Row], notes: Sequence[str]) -> None:
        self.rows = rows
        self.notes = notes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay out for the width at hand."""
        wide = options.max_width >= WIDE
        cells = dict.fromkeys(row.cell for row in self.rows)
        for cell in cells:
            yield _table(cell, [row for row in self.rows if row.cell == cell], wide)
        if not self.rows:
            yield Text("No records.")
        if self.rows:
            yield Text(LEGEND, style="dim")
        for note in self.notes:
            yield Text(f"Note: {note}", style="yellow")


LEGEND = (
    "Brackets: 95 % interval. `to full` and `NAMM - this` are paired, on the same samples. "
    "Cache: at the end (and at its peak), tokens per head and bytes of the whole cache. "
    "First token (and each later one). Failed samples (err) are counted and are in no mean."
)


def result_table(
    records: Iterable[Record], *, by_family: bool = False, notes: Sequence[str] = ()
) -> ResultTable:
    """Make the table of a run; print it with ``rich.console.Console().print``.

    Parameters
    ----------
    records
        Of one run or of several.
    by_family
        One row for each family of samples.
    notes
        What a reader must know: printed below, each on its line.
    """
    return ResultTable(result_rows(records, by_family=by_family), notes)


def _table(cell: Cell, rows: Sequence[Row], wide: bool) -> Padding:
    table = Table(
        title=cell.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    runs = len({row.method.run for row in rows}) > 1
    families = any(row.family for row in rows)
    variants = len({row.method[3:] for row in rows if row.method.policy != FULL}) > 1
    for name, shown in (("run", runs), ("family", families), ("policy", True), ("how", variants)):
        if shown:
            table.add_column(name, overflow="fold", min_width=10 if name == "policy" else None)
    table.add_column("n", justify="right")
    for name in (rows[0].metric or "score", "to full", "NAMM - this"):
        table.add_column(name.replace("_", " "), justify="right", min_width=12)
    for name in ("cache tokens", "cache bytes", "first token"):
        table.add_column(name, justify="right")
    places = words.decimals(rows)
    for row in rows:
        method = row.method
        values: list[str | Text] = []
        if runs:
            values.append(method.run)
        if families:
            values.append(row.family)
        budget = "" if method.budget == FULL else method.budget
        values.append(
            _two(method.policy, budget, wide, style="bold" if method.policy == NAMM else "")
        )
        if variants:
            values.append(f"{method.storage}, {method.protocol}, every {method.interval}")
        count = Text(str(row.n))
        if row.errors:
            count.append((" " if wide else "\n") + f"{row.errors} err", style="red")
        values += [
            count,
            _interval(row.score, places, wide),
            _interval(row.to_full, places, wide, signed=True),
            _interval(row.from_namm, places, wide, signed=True),
            _two(words.tokens(row.tokens_final), f"({words.tokens(row.tokens_peak)})", wide),
            _two(words.size(row.bytes_final), f"({words.size(row.bytes_peak)})", wide),
            _two(
                words.duration(row.first_token_seconds),
                f"({words.duration(row.token_seconds)})",
                wide,
            ),
        ]
        table.add_row(*values)
    return Padding(table, (0, 0, 1, 0))


def _interval(interval: Interval | None, places: int, wide: bool, *, signed: bool = False) -> Text:
    mean = words.mean(interval, places, signed=signed)
    return _two(mean, words.ends(interval, places, signed=signed), wide)


def _two(main: str, minor: str, wide: bool, style: str = "") -> Text:
    """Two things in one cell, beside or under each other."""
    text = Text(main, style=style)
    if minor:
        text.append((" " if wide else "\n") + minor, style="dim not bold")
    return text
