"""Records sorted into cells and methods.

A cell is what scores may be compared in: one adapter, model, task and set of samples. A method is
how the memory was run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from namm_mm.records import Record

FULL = "full"
NAMM = "namm"


class Cell(NamedTuple):
    """What scores may be compared in."""

    adapter: str
    model: str
    task: str
    dataset: str

    @property
    def title(self) -> str:
        """Heading of the cell."""
        return f"{self.task} with {self.adapter} ({self.model})"


class Method(NamedTuple):
    """How the memory was run."""

    run: str
    policy: str
    budget: str
    storage: str
    protocol: str
    interval: int

    @property
    def label(self) -> str:
        """Policy and budget, as short as they are clear."""
        return self.policy if self.budget in ("", FULL) else f"{self.policy} {self.budget}"


def cell_of(record: Record) -> Cell:
    """Return the cell that a record belongs to."""
    return Cell(record.adapter, record.model, record.task, record.dataset)


def method_of(record: Record) -> Method:
    """Return how the memory of a record was run."""
    return Method(
        record.provenance.run,
        record.policy,
        record.budget,
        record.storage,
        record.protocol,
        record.interval,
    )


def failed(record: Record) -> bool:
    """Whether the sample has no usable score: an error, no value, or one that is not finite."""
    return bool(record.error) or record.value is None or not math.isfinite(record.value)


def group(records: Iterable[Record]) -> dict[Cell, dict[Method, list[Record]]]:
    """Sort records into cells and methods: the full cache first, then NAMM, then as they came.

    A sample that a continued run scored again counts once, with its last record.
    """
    cells: dict[Cell, dict[Method, dict[tuple[str, int], Record]]] = {}
    for record in records:
        methods = cells.setdefault(cell_of(record), {})
        methods.setdefault(method_of(record), {})[(record.sample, record.seed)] = record
    first = {FULL: 0, NAMM: 1}
    return {
        cell: {
            method: list(methods[method].values())
            for method in sorted(methods, key=lambda m: first.get(m.policy, 2))
        }
        for cell, methods in cells.items()
    }


def by_metric(
    methods: Mapping[Method, Sequence[Record]],
) -> dict[str, dict[Method, list[Record]]]:
    """Split the records of one cell by the metric of their samples.

    A failed record may name no metric: it has that of the same sample under another policy, else
    that of its family, else the first one of the cell.
    """
    records = [record for found in methods.values() for record in found]
    named = [record for record in records if record.metric]
    of_sample = {record.sample: record.metric for record in named}
    of_family = {record.family: record.metric for record in named}
    first = named[0].metric if named else ""
    split: dict[str, dict[Method, list[Record]]] = {}
    for method, found in methods.items():
        for record in found:
            metric = (
                record.metric
                or of_sample.get(record.sample)
                or of_family.get(record.family)
                or first
            )
            split.setdefault(metric, {}).setdefault(method, []).append(record)
    return split


def sample_values(records: Sequence[Record]) -> dict[str, float]:
    """Map each sample to its score; a mean where it was run with several seeds."""
    found: dict[str, list[float]] = {}
    for record in records:
        if not failed(record):
            found.setdefault(record.sample, []).append(float(record.value or 0.0))
    return {sample: fmean(values) for sample, values in found.items()}
