"""The tables of a run as columns and rows of plain values: what W&B shows, and anybody can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from namm_mm.records import Record
from namm_mm.results.cells import Cell, Method
from namm_mm.results.rows import Row

PREDICTIONS = 10_000
"""Rows that W&B shows of a table; of more predictions, every so many-th is sent."""

INDEXES = 200
"""Frames or timesteps of one kind in a table."""

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
                record.asked.question or None,
                list(record.asked.options) or None,
                record.asked.right_answer or None,
                *(record.answer, record.value),
                use.kept_fraction if use else None,
                *(record.seconds, record.error),
            ]
        )
    return columns, data


def cache_by_layer(sizes: Mapping[tuple[Cell, Method], Sequence[float]]) -> Table:
    """Columns and rows of the table of mean cache sizes, from `layer_means`."""
    columns = ["task", "model", "policy", "budget", "storage", "protocol", "interval"]
    rows = [
        [cell.task, cell.model, *method[1:], layer, tokens]
        for (cell, method), layers in sizes.items()
        for layer, tokens in enumerate(layers)
    ]
    return [*columns, "layer", "tokens"], rows


def kept_by_index(means: Mapping[tuple[Cell, Method], Mapping[str, Sequence[float]]]) -> Table:
    """Columns and rows of the table of what is kept of each frame or timestep.

    `means` is from :func:`namm_mm.results.kept_means.index_means`.
    Of a long episode, every so many-th.
    """
    columns = ["task", "model", "policy", "budget", "storage", "protocol", "interval"]
    rows = [
        [cell.task, cell.model, *method[1:], kind, index, kept]
        for (cell, method), kinds in means.items()
        for kind, line in kinds.items()
        for index, kept in list(enumerate(line))[:: -(-len(line) // INDEXES)]
    ]
    return [*columns, "kind", "index", "kept_fraction"], rows
