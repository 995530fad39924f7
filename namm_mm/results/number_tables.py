"""The numbers of a figure as a table, for readers and formats that cannot show the figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from namm_mm.results import words
from namm_mm.results.blocks import Column, Entry, Table
from namm_mm.results.statistics import Interval


def numbers(
    title: str,
    lines: Mapping[str, Sequence[float | None]],
    heads: Sequence[str],
    word: Callable[[float | None], str],
    note: str = "",
) -> Table:
    """Return a table with a row for each policy; short lines end in dashes.

    Parameters
    ----------
    title
        Its heading.
    lines
        Label of each policy to its numbers.
    heads
        Heading of each number.
    word
        How a number is written.
    note
        Goes below the table.
    """
    return Table(
        title,
        (Column("policy"), *(Column(head, numeric=True) for head in heads)),
        tuple(
            (
                Entry(label),
                *(Entry(word(value), value=value) for value in line),
                *(Entry(words.MISSING) for _ in range(len(heads) - len(line))),
            )
            for label, line in lines.items()
        ),
        note,
    )


def interval_entry(
    interval: Interval | None, places: int, *, signed: bool = False, strong: bool = False
) -> Entry:
    """Return a mean with its interval below."""
    return Entry(
        words.mean(interval, places, signed=signed),
        words.ends(interval, places, signed=signed),
        None if interval is None else interval.mean,
        strong,
    )
