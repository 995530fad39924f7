"""The result table that a run prints at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from namm_mm.records import Record
from namm_mm.results import blocks
from namm_mm.results.result_table import LEGEND, result_tables
from namm_mm.results.rows import Row, result_rows
from namm_mm.results.words import MISSING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

GAP = 2
"""Spaces between two columns."""


class ResultTable:
    """A renderable: one table for each cell and metric, then what a reader must know."""

    def __init__(self, rows: Sequence[Row], notes: Sequence[str]) -> None:
        self.rows = rows
        self.notes = notes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay out for the width at hand."""
        for table in result_tables(self.rows).values():
            yield from _table(table, options.max_width)
        yield Text(LEGEND if self.rows else "No records.", style="dim" if self.rows else "")
        for note in self.notes:
            yield Text(f"Note: {note}", style="yellow")


def result_table(
    records: Iterable[Record], *, by_family: bool = False, notes: Sequence[str] = ()
) -> ResultTable:
    """Return the tables of a run; print them with ``rich.console.Console().print``.

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


def _table(table: blocks.Table, width: int) -> RenderResult:
    """Yield the table with as many columns as fit, and what is left out."""
    shown, beside = fitting(table, width)
    grid = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, GAP - 1, 0, 0),  # and one between the columns, which the box draws
        pad_edge=False,
        show_edge=False,
    )
    for place in shown:
        column = table.columns[place]
        grid.add_column(column.name, justify="right" if column.numeric else "left")
    for row in table.rows:
        grid.add_row(*(_entry(row[place], beside) for place in shown))
    yield Text(table.title, style="bold")
    yield grid
    filled = _filled(table)
    absent = [table.columns[place].name for place in filled if place not in shown]
    if absent:
        yield Text(f"Left out at this width: {', '.join(absent)}.", style="dim")
    if table.note:
        yield Text(table.note, style="yellow")
    yield Padding("", 0)


def fitting(table: blocks.Table, width: int) -> tuple[list[int], bool]:
    """Return the places of the columns that fit in `width`, and whether details stand beside.

    A column without a value is left out, such as the difference to a policy that did not run.
    Details stand beside what they belong to where all columns fit like that, else below. Where they
    do not fit either, the columns of the highest rank are left out, one rank after the other. No
    word is ever broken for a column to fit.
    """
    shown = _filled(table)
    if _width(table, shown, beside=True) <= width:
        return shown, True
    ranks = sorted({column.rank for column in table.columns if column.rank}, reverse=True)
    for rank in ranks:
        if _width(table, shown, beside=False) <= width:
            break
        shown = [place for place in shown if table.columns[place].rank < rank]
    return shown, False


def _filled(table: blocks.Table) -> list[int]:
    """The places of the columns that hold a value in some row."""
    rows = table.rows
    return [
        place
        for place, column in enumerate(table.columns)
        if not rows or not column.numeric or any(row[place].text != MISSING for row in rows)
    ]


def _width(table: blocks.Table, places: Sequence[int], *, beside: bool) -> int:
    widest = (
        max(
            (cell_len(line) for row in table.rows for line in _lines(row[place], beside)),
            default=0,
        )
        for place in places
    )
    heads = (cell_len(table.columns[place].name) for place in places)
    return sum(map(max, widest, heads)) + GAP * len(places)  # the last gap is a margin


def _lines(entry: blocks.Entry, beside: bool) -> list[str]:
    detail = _detail(entry, beside)
    parts = [entry.text, *detail.split("\n")] if detail else [entry.text]
    return [" ".join(parts)] if beside else parts


def _detail(entry: blocks.Entry, beside: bool) -> str:
    """Return the detail: in parentheses beside a number, each part in a line below it."""
    if not entry.detail or entry.detail.startswith("["):
        return entry.detail
    if not beside:
        return entry.detail.replace(", ", "\n")
    return f"({entry.detail})" if isinstance(entry.value, float | int) else entry.detail


def _entry(entry: blocks.Entry, beside: bool) -> Text:
    text = Text(entry.text, style="bold" if entry.strong else "", no_wrap=True)
    if detail := _detail(entry, beside):
        style = "red not bold" if entry.warning else "dim not bold"
        text.append((" " if beside else "\n") + detail, style=style)
    return text
