"""The tables of a run as columns and rows of plain values: what W&B shows, and anybody can read."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from namm_mm.records import Record
from namm_mm.results.cells import Cell, Method
from namm_mm.results.comparisons import by_table, significant
from namm_mm.results.rows import Row
from namm_mm.results.statistics import Interval

ROWS = 3_000
"""Rows of a table in W&B; of more, so many are drawn, always the same."""

Table = tuple[list[str], list[list[Any]]]


def thinned(table: Table) -> Table:
    """Return a table of at most `ROWS` rows, in their order.

    Rows are drawn at random with a fixed seed: every so many-th could be of one policy alone.
    """
    columns, rows = table
    if len(rows) <= ROWS:
        return table
    return columns, [
        rows[place] for place in sorted(random.Random(0).sample(range(len(rows)), ROWS))
    ]


def transfer_matrix(rows: Sequence[Row]) -> Table:
    """Return columns and rows of the table policy x task x budget, with intervals.

    A difference is `significant` where it holds at 5 % after Holm's correction over its cell and
    metric.
    """
    columns = ["task", "adapter", "model", "policy", "budget", "storage", "protocol", "interval"]
    columns += ["metric", "n", "errors", "mean", "low", "high"]
    for name in ("to_full", "namm_minus_this"):
        columns += [name, f"{name}_low", f"{name}_high", f"{name}_significant"]
    columns += ["tokens_final", "tokens_peak", "bytes_final", "bytes_peak"]
    columns += ["live_final", "live_peak", "bytes_held", "part_of_full", "kept_fraction"]
    columns += ["never_evicted", "larger_than_full", "first_token_seconds", "token_seconds"]
    data = []
    for own in by_table(rows).values():
        held = significant(own)
        for place, row in enumerate(own):
            data.append(
                [
                    *(row.cell.task, row.cell.adapter, row.cell.model, *row.method[1:]),
                    *(row.metric, row.n, row.errors, *_interval(row.score)),
                    *(*_interval(row.to_full), row.to_full and place in held.to_full),
                    *(*_interval(row.from_namm), row.from_namm and place in held.from_namm),
                    *(row.tokens_final, row.tokens_peak, row.bytes_final, row.bytes_peak),
                    *(row.live_final, row.live_peak),
                    *((row.held.bytes, row.held.part) if row.held else (None, None)),
                    *(row.kept_fraction, row.never_evicted),
                    row.larger_at_end or row.larger_at_peak,
                    *(row.first_token_seconds, row.token_seconds),
                ]
            )
    return columns, data


def _interval(interval: Interval | None) -> tuple[float | None, ...]:
    return (interval.mean, interval.low, interval.high) if interval else (None, None, None)


def predictions(records: Sequence[Record]) -> Table:
    """Return columns and rows of the table of answers."""
    columns = ["task", "sample", "family", "policy", "budget", "question", "options", "right"]
    columns += ["answer", "score", "kept_fraction", "seconds", "error"]
    data = []
    for record in records:
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
    """Return columns and rows of the table of mean cache sizes, from `layer_means`."""
    columns = ["task", "model", "policy", "budget", "storage", "protocol", "interval"]
    rows = [
        [cell.task, cell.model, *method[1:], layer, tokens]
        for (cell, method), layers in sizes.items()
        for layer, tokens in enumerate(layers)
    ]
    return [*columns, "layer", "tokens"], rows


def kept_by_index(means: Mapping[tuple[Cell, Method], Mapping[str, Sequence[float]]]) -> Table:
    """Return columns and rows of the table of what is kept of each frame or timestep.

    `means` is from :func:`namm_mm.results.kept_means.index_means`.
    """
    columns = ["task", "model", "policy", "budget", "storage", "protocol", "interval"]
    rows = [
        [cell.task, cell.model, *method[1:], kind, index, kept]
        for (cell, method), kinds in means.items()
        for kind, line in kinds.items()
        for index, kept in enumerate(line)
    ]
    return [*columns, "kind", "index", "kept_fraction"], rows
