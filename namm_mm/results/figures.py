"""The figures of a report, made from records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from namm_mm.records import Record
from namm_mm.results import plots
from namm_mm.results.blocks import (
    Figure,
)
from namm_mm.results.kept_means import layer_means
from namm_mm.results.rows import Cell, Method, Row, group, result_rows


def figures(
    records: Sequence[Record], rows: Sequence[Row] | None = None
) -> Iterator[tuple[Cell, tuple[Figure, ...]]]:
    """Yield the figures of each cell; `rows` are those of `records`, where they are known."""
    cells = group(records)
    rows = result_rows(records) if rows is None else rows
    by_family = result_rows(records, by_family=True)
    layers = layer_means(records)
    styles = _styles(cells)
    for cell, methods in cells.items():
        families = [row for row in by_family if row.cell == cell]
        kinds = dict.fromkeys(
            k for found in methods.values() for r in found for k in r.kept_by_index
        )
        found: list[Figure | None] = [
            plots.score_by_cache([row for row in rows if row.cell == cell], styles),
            plots.size_by_layer(cell, layers, styles),
            *(plots.kept_by_index(methods, kind, styles) for kind in kinds),
            plots.kept_by_kind(methods, styles),
            plots.by_family(families, styles),
        ]
        yield cell, tuple(figure for figure in found if figure is not None)


def _styles(cells: Mapping[Cell, Mapping[Method, Sequence[Record]]]) -> plots.Styles:
    return plots.Styles([method for methods in cells.values() for method in methods])
