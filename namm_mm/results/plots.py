"""Figures, made with Plotly, in colours that colour-blind readers can tell apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.records import Record
from namm_mm.results import words
from namm_mm.results.blocks import Column, Entry, Figure, Table
from namm_mm.results.kept_means import mean_by_index
from namm_mm.results.rows import Cell, Method, Row

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#999999")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "x", "hexagon")
SCALE = "Cividis"
INDEXES = 120
"""Frames or timesteps that a heat map shows; longer sequences are averaged into so many bins."""


class Styles:
    """One colour for each policy and one symbol for each run, the same in all figures."""

    def __init__(self, methods: Sequence[Method]) -> None:
        self._policies = list(dict.fromkeys(method.policy for method in methods))
        self._runs = list(dict.fromkeys(method.run for method in methods))

    def colour(self, method: Method) -> str:
        """Colour of the policy."""
        return COLOURS[self._policies.index(method.policy) % len(COLOURS)]

    def symbol(self, method: Method) -> str:
        """Symbol of the run."""
        return SYMBOLS[self._runs.index(method.run) % len(SYMBOLS)]

    def label(self, method: Method) -> str:
        """Policy and budget, with the run where there are several."""
        return f"{method.label} ({method.run})" if len(self._runs) > 1 else method.label


def score_by_cache(rows: Sequence[Row], styles: Styles) -> Figure | None:
    """Plot mean scores over the kept fraction of the cache, with 95 % intervals."""
    from plotly import graph_objects as go

    shown = [
        (row, row.score) for row in rows if row.score is not None and row.kept_fraction is not None
    ]
    if not shown:
        return None
    plot = go.Figure()
    for curve in budget_curves([row for row, _ in shown]):
        plot.add_scatter(
            x=[100 * (row.kept_fraction or 0.0) for row in curve],
            y=[row.score.mean for row in curve if row.score is not None],
            mode="lines",
            line={"color": styles.colour(curve[0].method), "width": 1.5},
            hoverinfo="skip",
            showlegend=False,
        )
    shifts = apart([100 * (row.kept_fraction or 0.0) for row, _ in shown])
    for (row, score), shift in zip(shown, shifts, strict=True):
        known = score.known
        plot.add_scatter(
            x=[100 * (row.kept_fraction or 0.0) + shift],
            y=[score.mean],
            error_y={
                "array": [score.high - score.mean if known else 0.0],
                "arrayminus": [score.mean - score.low if known else 0.0],
                "thickness": 1.5,
                "width": 5,
            },
            mode="markers",
            name=styles.label(row.method),
            marker={
                "color": styles.colour(row.method),
                "symbol": styles.symbol(row.method),
                "size": 12,
            },
            hovertemplate=f"{words.with_ends(score, words.decimals(rows))}<br>"
            f"cache {words.percent(row.kept_fraction)}, {words.size(row.bytes_final)}",
        )
    plot.update_xaxes(title="tokens kept, % of those seen", rangemode="tozero")
    plot.update_yaxes(title=rows[0].metric.replace("_", " "), rangemode="tozero")
    places = words.decimals(rows)
    table = Table(
        "Score and cache",
        (Column("policy"), Column("kept", numeric=True), Column("score", numeric=True)),
        tuple(
            (
                Entry(styles.label(row.method)),
                Entry(words.percent(row.kept_fraction), value=row.kept_fraction),
                _score(row, places),
            )
            for row, _ in shown
        ),
    )
    return Figure(
        "Score by cache size",
        "Each point is one policy: how much of the cache it kept, and its mean score with the 95 % "
        "interval. Up and to the left is better. A line joins the budgets of one policy. Points of "
        "nearly the same size are set a little apart.",
        finish(plot),
        table,
    )


def size_by_layer(
    cell: Cell, layers: Mapping[tuple[Cell, Method], Sequence[float]], styles: Styles
) -> Figure | None:
    """Plot tokens kept at the end in each layer."""
    from plotly import graph_objects as go

    shown = {method: sizes for (other, method), sizes in layers.items() if other == cell}
    if not shown:
        return None
    plot = go.Figure()
    for method, sizes in shown.items():
        plot.add_scatter(
            x=list(range(len(sizes))),
            y=[round(size, 2) for size in sizes],
            mode="lines+markers",
            name=styles.label(method),
            line={"color": styles.colour(method), "width": 2},
            marker={"symbol": styles.symbol(method), "size": 8},
        )
    plot.update_xaxes(title="layer", dtick=max(1, max(map(len, shown.values())) // 12))
    plot.update_yaxes(title="tokens kept, mean over heads", rangemode="tozero")
    depth = max(map(len, shown.values()))
    table = Table(
        "Tokens kept by layer",
        (Column("policy"), *(Column(f"layer {i}", numeric=True) for i in range(depth))),
        tuple(
            (
                Entry(styles.label(method)),
                *(Entry(words.tokens(size), value=size) for size in sizes),
                *(Entry(words.MISSING) for _ in range(depth - len(sizes))),
            )
            for method, sizes in shown.items()
        ),
    )
    return Figure(
        "Cache size by layer",
        "Tokens that each layer still holds at the end, mean over heads and samples.",
        finish(plot),
        table,
    )


def kept_by_index(
    records: Mapping[Method, Sequence[Record]], kind: str, styles: Styles
) -> Figure | None:
    """Show what fraction of each frame's (or timestep's) tokens was kept, one row for a policy."""
    from plotly import graph_objects as go

    lines = {
        method: mean_by_index([r.kept_by_index[kind] for r in found if kind in r.kept_by_index])
        for method, found in records.items()
    }
    lines = {method: line for method, line in lines.items() if line.size}
    if not lines:
        return None
    longest = max(line.size for line in lines.values())
    width = math.ceil(longest / INDEXES)
    bins = {method: binned(line, width) for method, line in lines.items()}
    labels = [styles.label(method) for method in bins]
    plot = go.Figure(
        go.Heatmap(
            z=[_rounded(line) for line in bins.values()],
            x=[index * width for index in range(math.ceil(longest / width))],
            y=labels,
            zmin=0.0,
            zmax=1.0,
            colorscale=SCALE,
            xgap=1 if longest <= 40 else 0,
            ygap=3,
            colorbar={"title": {"text": "kept"}, "thickness": 12, "tickformat": ".0%"},
            hovertemplate=f"{kind} %{{x}}<br>%{{y}}<br>kept %{{z:.1%}}<extra></extra>",
        )
    )
    plot.update_xaxes(title=f"{kind}, in order")
    plot.update_yaxes(autorange="reversed")
    parts = min(8, longest)
    columns = [round(i * longest / parts) for i in range(parts)]
    table = Table(
        f"Fraction kept by {kind}",
        (Column("policy"), *(Column(f"{kind} {at}", numeric=True) for at in columns)),
        tuple(
            (
                Entry(styles.label(method)),
                *(
                    Entry(words.percent(float(line[at])), value=float(line[at]))
                    if at < line.size
                    else Entry(words.MISSING)
                    for at in columns
                ),
            )
            for method, line in lines.items()
        ),
        note="" if parts == longest else f"{parts} of {longest} are shown.",
    )
    several = f" Each column is the mean of {width} in a row." if width > 1 else ""
    return Figure(
        f"What is kept of each {kind}",
        f"Fraction of the tokens of each {kind} that is still cached at the end, mean over layers, "
        f"heads and samples: bright is kept, dark is forgotten.{several}",
        finish(plot),
        table,
        height=150 + 34 * len(labels),
    )


def kept_by_kind(records: Mapping[Method, Sequence[Record]], styles: Styles) -> Figure | None:
    """Compare what fraction of each kind of token was kept."""
    from plotly import graph_objects as go

    means = {
        method: {
            kind: float(np.mean([r.kept_by_kind[kind] for r in found if kind in r.kept_by_kind]))
            for kind in dict.fromkeys(kind for r in found for kind in r.kept_by_kind)
        }
        for method, found in records.items()
    }
    means = {method: kinds for method, kinds in means.items() if kinds}
    kinds = list(dict.fromkeys(kind for found in means.values() for kind in found))
    if len(kinds) < 2:
        return None
    plot = go.Figure()
    for method, found in means.items():
        plot.add_bar(
            x=kinds,
            y=[None if kind not in found else round(100 * found[kind], 2) for kind in kinds],
            name=styles.label(method),
            marker={"color": styles.colour(method)},
        )
    plot.update_yaxes(title="kept, %", range=[0, 100])
    table = Table(
        "Fraction kept by kind of token",
        (Column("policy"), *(Column(kind, numeric=True) for kind in kinds)),
        tuple(
            (
                Entry(styles.label(method)),
                *(Entry(words.percent(found.get(kind)), value=found.get(kind)) for kind in kinds),
            )
            for method, found in means.items()
        ),
    )
    return Figure(
        "What is kept of each kind of token",
        "Fraction of the tokens of each kind that is still cached at the end.",
        finish(plot),
        table,
    )


def by_family(rows: Sequence[Row], styles: Styles) -> Figure | None:
    """Compare scores within each family of samples; `rows` are by family."""
    from plotly import graph_objects as go

    families = list(dict.fromkeys(row.family for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    found = {(row.method, row.family): row for row in rows}
    if len(families) < 2:
        return None
    plot = go.Figure()
    for method in methods:
        scores = [getattr(found.get((method, family)), "score", None) for family in families]
        plot.add_bar(
            x=families,
            y=[None if score is None else score.mean for score in scores],
            error_y={
                "array": [s.high - s.mean if s and s.known else 0.0 for s in scores],
                "arrayminus": [s.mean - s.low if s and s.known else 0.0 for s in scores],
                "thickness": 1.5,
                "width": 4,
                "color": "#7f8790",
            },
            name=styles.label(method),
            marker={"color": styles.colour(method)},
        )
    plot.update_yaxes(title=rows[0].metric.replace("_", " "))
    places = words.decimals(rows)
    table = Table(
        "Score by family",
        (Column("family"), *(Column(styles.label(method), numeric=True) for method in methods)),
        tuple(
            (
                Entry(family),
                *(
                    _score(found[method, family], places)
                    if (method, family) in found
                    else Entry(words.MISSING)
                    for method in methods
                ),
            )
            for family in families
        ),
    )
    return Figure(
        "Score by family",
        "Mean score with its 95 % interval in each family of samples.",
        finish(plot),
        table,
    )


def budget_curves(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that differ in their budget alone, by the size of the cache; where there are several."""
    curves: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        curves.setdefault(row.method._replace(budget=""), []).append(row)
    return [
        sorted(curve, key=lambda row: row.kept_fraction or 0.0)
        for curve in curves.values()
        if len(curve) > 1
    ]


def apart(values: Sequence[float], step: float = 1.2) -> list[float]:
    """Shifts that set values of the same `step` side by side, so that bars do not overlap."""
    groups: dict[int, list[int]] = {}
    for index in sorted(range(len(values)), key=values.__getitem__):
        near = [g for g in groups if abs(values[groups[g][0]] - values[index]) < step]
        groups.setdefault(near[0] if near else index, []).append(index)
    shifts = [0.0] * len(values)
    for members in groups.values():
        for place, index in enumerate(sorted(members)):
            shifts[index] = step * (place - (len(members) - 1) / 2)
    return shifts


def binned(
    line: np.ndarray[Any, np.dtype[np.float64]], width: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mean of each `width` values in a row; the last bin may be shorter."""
    starts = np.arange(0, line.size, width)
    counts = np.diff(np.append(starts, line.size))
    return np.asarray(np.add.reduceat(line, starts) / counts, dtype=np.float64)


def finish(plot: Plot) -> dict[str, Any]:
    """Give a figure the common look; the page sets the colours of text and grid by its theme."""
    plot.update_layout(
        template={},
        margin={"l": 60, "r": 16, "t": 8, "b": 48},
        legend={"orientation": "h", "y": -0.24, "x": 0},
        hovermode="closest",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        barmode="group",
    )
    plot.update_xaxes(automargin=True, zeroline=False)
    plot.update_yaxes(automargin=True, zeroline=False)
    found = plot.to_plotly_json()
    return {"data": found["data"], "layout": found["layout"]}


def _score(row: Row, places: int) -> Entry:
    if row.score is None:
        return Entry(words.MISSING)
    return Entry(words.mean(row.score, places), words.ends(row.score, places), row.score.mean)


def _rounded(line: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    return [round(float(value), 4) for value in line]
