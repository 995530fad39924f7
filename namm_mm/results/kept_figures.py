"""Figures of what was kept: by layer, by frame or timestep, and by kind of token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from namm_mm.records import Record
from namm_mm.results import words
from namm_mm.results.blocks import Figure
from namm_mm.results.cells import Method
from namm_mm.results.kept_means import kind_means, mean_by_index
from namm_mm.results.number_tables import numbers
from namm_mm.results.styles import SCALE, Styles, plotly

INDEXES = 120
"""Frames or timesteps that a heat map shows; longer sequences are averaged into so many bins."""

TALL = 480
"""Pixels of the rows of a heat map, where that leaves room for their labels."""

SHOWN = 8
"""Frames or timesteps in the table of a heat map."""

SAME = 0.01
"""Lines that differ by less than this part of the largest value cannot be told apart."""


def size_by_layer(sizes: Mapping[Method, Sequence[float]], styles: Styles) -> Figure | None:
    """Plot the tokens kept at the end in each layer; lines that coincide are drawn once."""
    if not sizes:
        return None
    depth = max(map(len, sizes.values()))
    data = []
    for methods in coinciding(sizes):
        first = methods[0]
        data.append(
            {
                "type": "scatter",
                "x": list(range(len(sizes[first]))),
                "y": [round(size, 2) for size in sizes[first]],
                "mode": "lines+markers",
                "name": styles.joined(methods),
                "line": {"color": styles.colour(first), "width": 2, "dash": styles.dash(first)},
                "marker": {"symbol": styles.symbol(first), "size": 7},
            }
        )
    plot = plotly(
        data,
        x={"title": "layer", "dtick": max(1, depth // 12)},
        y={"title": "tokens kept", "rangemode": "tozero"},
        showlegend=True,
    )
    return Figure(
        "Cache size by layer",
        "Tokens that each layer still holds at the end, mean over heads and samples. Policies of "
        "equal size share one line.",
        plot,
        numbers(
            "Tokens kept by layer",
            {styles.label(method): list(line) for method, line in sizes.items()},
            [f"layer {layer}" for layer in range(depth)],
            words.tokens,
        ),
    )


def coinciding(sizes: Mapping[Method, Sequence[float]]) -> list[list[Method]]:
    """Return the methods in groups whose lines cannot be told apart."""
    largest = max(max(line, default=0.0) for line in sizes.values())
    groups: list[list[Method]] = []
    for method, line in sizes.items():
        for group in groups:
            other = sizes[group[0]]
            if len(other) == len(line) and np.allclose(other, line, rtol=0, atol=SAME * largest):
                group.append(method)
                break
        else:
            groups.append([method])
    return groups


def kept_by_index(
    records: Mapping[Method, Sequence[Record]], kind: str, styles: Styles
) -> Figure | None:
    """Show what fraction of each frame's (or timestep's) tokens was kept, one row for a policy."""
    lines = {
        method: mean_by_index([r.kept_by_index[kind] for r in found if kind in r.kept_by_index])
        for method, found in records.items()
    }
    lines = {method: line for method, line in lines.items() if line.size}
    if not lines:
        return None
    longest = max(line.size for line in lines.values())
    width = math.ceil(longest / INDEXES)
    labels = [styles.short(method) for method in lines]
    heat = {
        "type": "heatmap",
        "z": [[round(float(value), 4) for value in binned(line, width)] for line in lines.values()],
        "x": [index * width for index in range(math.ceil(longest / width))],
        "y": labels,
        "zmin": 0.0,
        "zmax": 1.0,
        "colorscale": SCALE,
        "xgap": 1 if longest <= 40 else 0,
        "ygap": 3,
        "colorbar": {"title": {"text": "kept"}, "thickness": 12, "tickformat": ".0%"},
        "hovertemplate": f"{kind} %{{x}}<br>%{{y}}<br>kept %{{z:.1%}}<extra></extra>",
    }
    plot = plotly([heat], x={"title": f"{kind}, in order"}, y={"autorange": "reversed"})
    places = [round(i * longest / min(SHOWN, longest)) for i in range(min(SHOWN, longest))]
    several = f" Each column is the mean of {width} in a row." if width > 1 else ""
    return Figure(
        f"What is kept of each {kind}",
        f"Fraction of the tokens of each {kind} that is still cached at the end, mean over layers, "
        f"heads and samples: bright is kept, dark is forgotten.{several}",
        plot,
        numbers(
            f"Fraction kept by {kind}",
            {
                styles.label(method): [
                    float(line[place]) if place < line.size else None for place in places
                ]
                for method, line in lines.items()
            },
            [f"{kind} {place}" for place in places],
            words.percent,
            note="" if len(places) == longest else f"{len(places)} of {longest} are shown.",
        ),
        height=150 + round(len(labels) * max(14, min(30, TALL / len(labels)))),
    )


def kept_by_kind(records: Mapping[Method, Sequence[Record]], styles: Styles) -> Figure | None:
    """Compare what fraction of each kind of token was kept; None where there is one kind."""
    means = kind_means(records)
    kinds = list(dict.fromkeys(kind for found in means.values() for kind in found))
    if len(kinds) < 2:
        return None
    data = [
        {
            "type": "bar",
            "x": kinds,
            "y": [None if kind not in found else round(100 * found[kind], 2) for kind in kinds],
            "name": styles.short(method),
            "marker": styles.bar(method),
        }
        for method, found in means.items()
    ]
    plot = plotly(data, y={"title": "kept, %", "range": [0, 100]})
    return Figure(
        "What is kept of each kind of token",
        "Fraction of the tokens of each kind that is still cached at the end.",
        plot,
        numbers(
            "Fraction kept by kind of token",
            {
                styles.label(method): [found.get(kind) for kind in kinds]
                for method, found in means.items()
            },
            kinds,
            words.percent,
        ),
    )


def binned(line: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the mean of each `width` values in a row; the last bin may be shorter."""
    starts = np.arange(0, line.size, width)
    counts = np.diff(np.append(starts, line.size))
    return np.asarray(np.add.reduceat(line, starts) / counts, dtype=np.float64)
