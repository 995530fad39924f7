"""The figures of a report, made from records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from namm_mm.records import Record
from namm_mm.results.blocks import Figure
from namm_mm.results.cells import Cell, Method, group
from namm_mm.results.comparisons import by_table
from namm_mm.results.family_figure import by_family
from namm_mm.results.kept_figures import kept_by_index, kept_by_kind, size_by_layer
from namm_mm.results.kept_means import layer_means
from namm_mm.results.quality_figure import quality_by_bytes
from namm_mm.results.rows import Row, result_rows
from namm_mm.results.styles import Styles


def figures(records: Sequence[Record]) -> Iterator[tuple[Cell, tuple[Figure, ...]]]:
    """Yield all figures of each cell: quality against bytes for each metric, then the others."""
    cells = group(records)
    styles = styles_of(cells)
    quality = quality_figures(result_rows(records), styles)
    details = detail_figures(records, styles)
    for cell in cells:
        own = [figure for (other, _), figure in quality.items() if other == cell]
        yield cell, (*own, *details[cell])


def quality_figures(rows: Sequence[Row], styles: Styles) -> dict[tuple[Cell, str], Figure]:
    """Return quality against bytes for each cell and metric that has scores and sizes."""
    drawn = {
        key: quality_by_bytes(own, styles.within(row.method for row in own))
        for key, own in by_table(rows).items()
    }
    return {key: figure for key, figure in drawn.items() if figure is not None}


def detail_figures(records: Sequence[Record], styles: Styles) -> dict[Cell, tuple[Figure, ...]]:
    """Return for each cell what was kept, and scores by family for each metric."""
    families = by_table(result_rows(records, by_family=True))
    layers = layer_means(records)
    drawn = {}
    for cell, methods in group(records).items():
        kinds = dict.fromkeys(
            k for found in methods.values() for r in found for k in r.kept_by_index
        )
        look = styles.within(methods)
        sizes = {method: line for (other, method), line in layers.items() if other == cell}
        found = (
            *(by_family(rows, look) for (other, _), rows in families.items() if other == cell),
            size_by_layer(sizes, look),
            *(kept_by_index(methods, kind, look) for kind in kinds),
            kept_by_kind(methods, look),
        )
        drawn[cell] = tuple(figure for figure in found if figure is not None)
    return drawn


def styles_of(cells: Mapping[Cell, Mapping[Method, Sequence[Record]]]) -> Styles:
    """Return the look of all methods of a report."""
    return Styles([method for methods in cells.values() for method in methods])
