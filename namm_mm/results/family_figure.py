"""Scores within each family of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from namm_mm.results import words
from namm_mm.results.blocks import Column, Entry, Figure, Table
from namm_mm.results.number_tables import interval_entry
from namm_mm.results.rows import Row
from namm_mm.results.styles import Styles, error_bars, plotly

GREY = "#7f8790"
"""Of error bars, which lie over bars of any colour."""


def by_family(rows: Sequence[Row], styles: Styles) -> Figure | None:
    """Compare scores within each family; None where there is one family.

    `rows` are by family, of one cell and metric.
    """
    families = list(dict.fromkeys(row.family for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    found = {(row.method, row.family): row.score for row in rows}
    if len(families) < 2:
        return None
    metric = rows[0].metric.replace("_", " ") or "score"
    data: list[dict[str, Any]] = []
    for method in methods:
        scores = [found.get((method, family)) for family in families]
        data.append(
            {
                "type": "bar",
                "x": families,
                "y": [None if score is None else score.mean for score in scores],
                "error_y": error_bars(scores) | {"color": GREY},
                "name": styles.short(method),
                "marker": styles.bar(method),
            }
        )
    places = words.decimals(rows)
    table = Table(
        "Score by family",
        (Column("family"), *(Column(styles.label(method), numeric=True) for method in methods)),
        tuple(
            (
                Entry(family),
                *(interval_entry(found.get((method, family)), places) for method in methods),
            )
            for family in families
        ),
    )
    return Figure(
        f"{metric.capitalize()} by family",
        "Mean score with its 95 % interval in each family of samples.",
        plotly(data, y={"title": metric}),
        table,
    )
