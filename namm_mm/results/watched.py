"""The samples of a run that have a history, and what their histories tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from namm_mm.records import Record
from namm_mm.results.cells import Cell, Method, failed, group
from namm_mm.results.episode_figure import episode_figure
from namm_mm.runs.history import History, of_record

Watched = tuple[Method, Record, History]


def watched(records: Sequence[Record], run: Path) -> dict[Cell, dict[str, list[Watched]]]:
    """Return for each cell the samples that have a history, with all their policies."""
    found: dict[Cell, dict[str, list[Watched]]] = {}
    for cell, methods in group(records).items():
        samples: dict[str, list[Watched]] = defaultdict(list)
        for method, chosen in methods.items():
            for record in chosen:
                history = None if failed(record) else of_record(record, run)
                if history is not None:
                    samples[record.sample].append((method, record, history))
        if samples:
            found[cell] = dict(samples)
    return found


def scores_by_layer(
    samples: Mapping[str, Sequence[Watched]],
) -> Iterator[tuple[Method, int, NDArray[Any]]]:
    """Yield for each policy and layer quantiles of the scores that it gave, over all samples."""
    found: dict[tuple[Method, int], list[NDArray[Any]]] = defaultdict(list)
    for chosen in samples.values():
        for method, _, history in chosen:
            for place, layer in enumerate(history.layers):
                if history.scores.size:
                    found[method, layer].append(history.scores[place])
    for (method, layer), parts in found.items():
        yield method, layer, np.concatenate(parts)


def episode_figures(
    samples: Mapping[str, Sequence[Watched]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the label of each policy and a Plotly figure of the first watched episode."""
    for chosen in list(samples.values())[:1]:
        for method, _, history in chosen:
            if history.rewards:
                yield method.label, episode_figure(history)
