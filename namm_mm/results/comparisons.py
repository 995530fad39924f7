"""Rows sorted into tables: their headings, which differences hold, and what a reader must know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from namm_mm.results.cells import Cell, Method
from namm_mm.results.rows import Row
from namm_mm.results.significance import LEVEL, holm


def by_table(rows: Iterable[Row]) -> dict[tuple[Cell, str], list[Row]]:
    """Sort rows into tables: one for each cell and metric."""
    tables: dict[tuple[Cell, str], list[Row]] = {}
    for row in rows:
        tables.setdefault((row.cell, row.metric), []).append(row)
    return tables


def table_titles(rows: Sequence[Row]) -> dict[tuple[Cell, str], str]:
    """Return a heading for each table that no other table has.

    The metric is named where the cell has several, the run where a table has only one of several,
    and the set of samples where that is all that differs.
    """
    tables = by_table(rows)
    metrics = Counter(cell for cell, _ in tables)
    several = len({row.method.run for row in rows}) > 1
    titles = {}
    for (cell, metric), own in tables.items():
        title = cell.title
        if metrics[cell] > 1:
            title += f": {metric.replace('_', ' ')}"
        runs = {row.method.run for row in own}
        if several and len(runs) == 1:
            title += f", run {runs.pop()}"
        titles[cell, metric] = title
    counts = Counter(titles.values())
    return {
        (cell, metric): title if counts[title] == 1 else f"{title}, samples {cell.dataset}"
        for (cell, metric), title in titles.items()
    }


@dataclass(frozen=True)
class Significant:
    """Which differences of one table hold at 5 % after Holm's correction over the table.

    Attributes
    ----------
    to_full, from_namm
        Places in the table of the rows whose difference holds.
    """

    to_full: frozenset[int]
    from_namm: frozenset[int]


def significant(rows: Sequence[Row]) -> Significant:
    """Return which differences hold; each pair of methods counts once in the correction."""
    p_values: dict[_Pair, float] = {}
    for row in rows:
        for other, difference in ((row.full, row.to_full), (row.namm, row.from_namm)):
            if difference is not None:
                p_values[_pair(row, other)] = difference.p_value
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    holding = {pair for pair, p_value in adjusted.items() if p_value < LEVEL}
    places = list(enumerate(rows))
    return Significant(
        frozenset(place for place, row in places if _pair(row, row.full) in holding),
        frozenset(place for place, row in places if _pair(row, row.namm) in holding),
    )


_Pair = tuple[str, frozenset[Method | None]]


def _pair(row: Row, other: Method | None) -> _Pair:
    """Return what identifies a comparison: the family, and the two methods in either order."""
    return row.family, frozenset((row.method, other))


def remarks(rows: Sequence[Row]) -> list[str]:
    """Return what a reader must know of the sizes in one table, one sentence each."""
    found = []
    if never := [row for row in rows if row.never_evicted]:
        found.append(f"The budget was never reached and nothing was evicted: {_names(never)}.")
    for when, larger in (
        ("at the end", [row for row in rows if row.larger_at_end]),
        ("at its peak", [row for row in rows if row.larger_at_peak]),
    ):
        if larger:
            found.append(f"The cache takes more bytes than the full one {when}: {_names(larger)}.")
    if over := [row for row in rows if row.over_budget]:
        found.append(
            "The budget in bytes cannot be held, because what the policy holds once for a sequence "
            f"takes more: {_names(over)}."
        )
    return found


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(row.method.label for row in rows))
