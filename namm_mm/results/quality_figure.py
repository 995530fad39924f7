"""The headline figure: quality against the bytes of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from namm_mm.results import words
from namm_mm.results.blocks import Column, Entry, Figure, Table
from namm_mm.results.cells import Method
from namm_mm.results.number_tables import interval_entry
from namm_mm.results.rows import Row
from namm_mm.results.styles import Styles, error_bars, plotly

SAME = (0.006, 0.025)
"""Points that lie closer than these parts of the two axes cannot be told apart: half a marker."""

WIDE = 10.0
"""The axis of bytes is logarithmic where the largest cache is so many times the smallest."""


FROM_ZERO = {"rangemode": "tozero"}


def quality_title(metric: str) -> str:
    """Return the title of the figure of a metric."""
    return f"{metric.replace('_', ' ').capitalize() or 'Score'} against bytes"


def quality_by_bytes(rows: Sequence[Row], styles: Styles) -> Figure | None:
    """Plot mean scores against the bytes of the cache; None without such rows.

    `rows` are those of one table. Every point stands at its true place; what cannot be told apart
    has one entry in the legend.
    """
    shown = [row for row in rows if row.score is not None and row.held is not None]
    if not shown:
        return None
    divisor, unit = words.byte_unit(max(map(_held, shown)))
    sizes = [held for held in map(_held, shown) if held]
    wide = len(sizes) == len(shown) and max(sizes) > WIDE * min(sizes)
    curves = budget_curves(shown)
    named = sorted(  # what is covered is drawn first, so that a marker is that of the legend
        zip(curves, _names(curves, styles, wide=wide), strict=True),
        key=lambda pair: pair[1] is not None,
    )
    plot = plotly(
        [_trace(curve, name, divisor, styles) for curve, name in named],
        x={"title": f"cache after its last update, {unit}"}
        | ({"type": "log"} if wide else FROM_ZERO),
        y={"title": rows[0].metric.replace("_", " "), **FROM_ZERO},
    )
    return Figure(
        quality_title(rows[0].metric),
        "Mean score with its 95 % interval against the bytes of the whole cache right after its "
        "last update, when a budget is met. Up and to the left is better. A line joins the budgets "
        "of one policy." + (" The axis of bytes is logarithmic." if wide else ""),
        plot,
        _table(shown, styles),
        height=320,
        wide=True,
        task=rows[0].cell.task,
    )


def _trace(
    curve: Sequence[Row], name: str | None, divisor: float, styles: Styles
) -> dict[str, Any]:
    method, scores = curve[0].method, [row.score for row in curve]
    return {
        "type": "scatter",
        "x": [_held(row) / divisor for row in curve],
        "y": [score.mean if score else None for score in scores],
        "error_y": error_bars(scores),
        "mode": "lines+markers" if len(curve) > 1 else "markers",
        "name": name or "",
        "showlegend": name is not None,
        "line": {
            "color": styles.colour(method),
            "width": 1.5,
            "dash": "dash" if _sharing(method) else styles.round_dash(method),
        },
        "marker": {"color": styles.colour(method), "symbol": styles.symbol(method), "size": 11},
        "hovertext": [_hover(row, styles) for row in curve],
        "hoverinfo": "text",
    }


def budget_curves(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows that differ in their budget alone, each curve by the size of the cache.

    A budget that the heads of a layer share is no point of a curve of equal heads.
    """
    curves: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        curves.setdefault(row.method._replace(budget=_sharing(row.method)), []).append(row)
    return [sorted(curve, key=_held) for curve in curves.values()]


def _held(row: Row) -> float:
    return row.held.bytes if row.held else 0.0


def _sharing(method: Method) -> str:
    """``heads share`` for a budget that the heads of a layer share, else nothing."""
    return "heads share" if method.budget.startswith("pool") else ""


def _names(
    curves: Sequence[Sequence[Row]], styles: Styles, *, wide: bool = False
) -> list[str | None]:
    """Return the entry of each curve in the legend; None where an earlier one covers it."""
    points = [
        np.array([(_held(row), row.score.mean) for row in curve if row.score]) for curve in curves
    ]
    if wide:
        points = [np.column_stack((np.log(own[:, 0]), own[:, 1])) for own in points]
    every = np.concatenate(points)
    low, high = every.min(0), every.max(0)
    low = np.where([wide, False], low, np.minimum(low, 0.0))  # an axis that is not logarithmic
    spans = np.maximum(high - low, 1e-12)
    groups: list[list[int]] = []
    for place, mine in enumerate(points):
        for group in groups:
            first = points[group[0]]
            if first.shape == mine.shape and bool((abs(first - mine) / spans < SAME).all()):
                group.append(place)
                break
        else:
            groups.append([place])
    names: list[str | None] = [None] * len(curves)
    for group in groups:
        methods = [curves[place][0].method for place in group]
        if len(curves[group[0]]) > 1:  # the points of a curve are its budgets
            methods = [method._replace(budget=_sharing(method)) for method in methods]
        names[group[0]] = styles.joined(methods)
    return names


def _hover(row: Row, styles: Styles) -> str:
    score = words.with_ends(row.score, words.decimals([row]))
    size = words.size(_held(row))
    return f"{styles.label(row.method)}<br>{score}<br>{size}, {words.percent(row.kept_fraction)}"


def _table(rows: Sequence[Row], styles: Styles) -> Table:
    places = words.decimals(rows)
    names = ("bytes", "kept", "score")
    return Table(
        "Score and cache",
        (Column("policy"), *(Column(name, numeric=True) for name in names)),
        tuple(
            (
                Entry(styles.label(row.method)),
                Entry(words.size(_held(row)), value=_held(row)),
                Entry(words.percent(row.kept_fraction), value=row.kept_fraction),
                interval_entry(row.score, places),
            )
            for row in rows
        ),
    )
