"""What was kept, mean over samples: by layer, and by frame or timestep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from namm_mm.records import Record
from namm_mm.results.rows import Cell, Method, group


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


def mean_by_index(lines: Sequence[Sequence[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mean of sequences of unequal length at each index, over those that reach it."""
    longest = max((len(line) for line in lines), default=0)
    total, count = np.zeros(longest), np.zeros(longest)
    for line in lines:
        total[: len(line)] += line
        count[: len(line)] += 1
    return total / np.maximum(count, 1)
