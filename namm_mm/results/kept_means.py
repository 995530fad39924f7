"""What was kept, mean over samples: by layer, and by frame or timestep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from namm_mm.records import Record
from namm_mm.results.cells import Cell, Method, group


def layer_means(records: Iterable[Record]) -> dict[tuple[Cell, Method], list[float]]:
    """Tokens kept at the end in each layer, mean over samples, for each cell and method."""
    found = {}
    for cell, methods in group(records).items():
        for method, chosen in methods.items():
            layers = [r.memory.kept_by_layer for r in chosen if r.memory is not None]
            if layers and len({len(sizes) for sizes in layers}) == 1:
                found[cell, method] = np.mean(layers, axis=0).tolist()
    return found


def index_means(records: Iterable[Record]) -> dict[tuple[Cell, Method], dict[str, list[float]]]:
    """Fraction kept of each index of each kind, mean over samples, for each cell and method."""
    return {
        (cell, method): {
            kind: mean_by_index([r.kept_by_index[kind] for r in found if kind in r.kept_by_index])
            .round(4)
            .tolist()
            for kind in dict.fromkeys(kind for r in found for kind in r.kept_by_index)
        }
        for cell, methods in group(records).items()
        for method, found in methods.items()
    }


def kind_means(records: Mapping[Method, Sequence[Record]]) -> dict[Method, dict[str, float]]:
    """Fraction kept of each kind of token, mean over samples; methods without any are left out."""
    means = {}
    for method, found in records.items():
        kinds: dict[str, list[float]] = {}
        for record in found:
            for kind, fraction in record.kept_by_kind.items():
                kinds.setdefault(kind, []).append(fraction)
        if kinds:
            means[method] = {kind: float(np.mean(values)) for kind, values in kinds.items()}
    return means


def mean_by_index(lines: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Mean of sequences of unequal length at each index, over those that reach it."""
    longest = max((len(line) for line in lines), default=0)
    total, count = np.zeros(longest), np.zeros(longest)
    for line in lines:
        total[: len(line)] += line
        count[: len(line)] += 1
    return total / np.maximum(count, 1)
