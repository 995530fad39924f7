"""The tables of a run as columns and rows of plain values: what W&B shows, and anybody can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from namm_mm.records import Record
from namm_mm.results import Cell, Method, Row, group

PREDICTIONS = 10_000
"""Rows that W&B shows of a table; of more predictions, every so many-th is sent."""

Table = tuple[list[str], list[list[Any]]]


def transfer_matrix(rows: Sequence[Row]) -> Table:
    """Columns and rows of the table policy x task x budget, with intervals."""
    columns = ["task", "adapter", "model", "policy", "budget", "storage", "protocol", "interval"]
    columns += ["metric", "n", "errors", "mean", "low", "high"]
    columns += ["to_full", "to_full_low", "to_full_high"]
    columns += ["namm_minus_this", "namm_minus_this_low", "namm_minus_this_high"]
    numbers = ["tokens_final", "tokens_peak", "bytes_final", "bytes_peak", "kept_fraction"]
    numbers += ["first_token_seconds", "token_seconds"]
    data = []
    for row in rows:
        line: list[Any] = [row.cell.task, row.cell.adapter, row.cell.model, *row.method[1:]]
        line += [row.metric, row.n, row.errors]
        for part in (row.score, row.to_full, row.from_namm):
            line += [part.mean, part.low, part.high] if part else [None, None, None]
        data.append(line + [getattr(row, name) for name in numbers])
    return columns + numbers, data


def predictions(records: Sequence[Record]) -> Table:
    """Columns and rows of the table of answers; of too many, every so many-th."""
    columns = ["task", "sample", "family", "policy", "budget", "question", "options", "right"]
    columns += ["answer", "score", "kept_fraction", "seconds", "error"]
    step = -(-len(records) // PREDICTIONS)
    data = []
    for record in records[::step] if step else records:
        use = record.memory
        data.append(
            [
                *(record.task, record.sample, record.family, record.policy, record.budget),
                *(record.details.get(name) for name in ("question", "options", "right")),
                *(record.answer, record.value),
                use.tokens_final / use.seen if use and use.seen else None,
                *(record.seconds, record.error),
            ]
        )
    return columns, data


def cache_by_layer(sizes: Mapping[tuple[Cell, Method], Sequence[float]]) -> Table:
    """Columns and rows of the table of mean cache sizes, from :func:`layer_means`."""
    columns = ["task", "model", "policy", "budget", "storage", "protocol", "interval"]
    rows = [
        [cell.task, cell.model, *method[1:], layer, tokens]
        for (cell, method), layers in sizes.items()
        for layer, tokens in enumerate(layers)
    ]
    return [*columns, "layer", "tokens"], rows


def layer_means(records: Sequence[Record]) -> dict[tuple[Cell, Method], list[float]]:
    """Tokens kept at the end in each layer, mean over samples, for each cell and method."""
    found = {}
    for cell, methods in group(records).items():
        for method, chosen in methods.items():
            layers = [r.memory.kept_by_layer for r in chosen if r.memory is not None]
            if layers and len({len(sizes) for sizes in layers}) == 1:
                found[cell, method] = np.mean(layers, axis=0).tolist()
    return found
