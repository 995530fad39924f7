"""Benchmarks that have a table of their own: what a run is told before, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from namm_mm.records import Record, Sample
from namm_mm.runs.disk import write_whole
from namm_mm.tasks.video_benchmarks.summaries import lines

FILE = "benchmark.json"


def notices(task: Any, samples: Sequence[Sample]) -> Iterator[str]:
    """What a task says of its samples before they run, such as which videos are missing."""
    if hasattr(task, "notices"):
        yield from task.notices(samples)


def save_table(
    folder: Path,
    cell: str,
    task: Any,
    model: str,
    records: Sequence[Record],
    dataset: str | None = None,
) -> Iterator[str]:
    """Write the table of a cell into ``benchmark.json`` of a run folder, and word its lines.

    Nothing is written for a task without a table (without a method ``summary``).

    Parameters
    ----------
    model
        Of the cell, as in its records.
    records
        Of the run, those of an earlier attempt included; others than the cell's are left out.
    dataset
        Fingerprint of the cell's data; None asks the task, which reads them.
    """
    if not hasattr(task, "summary"):
        return
    path = folder / FILE
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    mark = task.fingerprint() if dataset is None else dataset
    own = [record for record in records if (record.dataset, record.model) == (mark, model)]
    found[cell] = task.summary(own)
    write_whole(path, json.dumps(found, indent=2) + "\n")
    yield from lines(found[cell], cell)
