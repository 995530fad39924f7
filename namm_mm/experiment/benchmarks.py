"""The tables of benchmarks that have one of their own, in the run folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from namm_mm.records import Record
from namm_mm.runs.disk import write_whole
from namm_mm.tasks.base import Task

FILE = "benchmark.json"


def save_table(
    folder: Path,
    cell: str,
    task: Task,
    model: str,
    records: Sequence[Record],
    dataset: str | None = None,
) -> Iterator[str]:
    """Write the table of a cell into ``benchmark.json`` of a run folder; yield it in words.

    Nothing is written for a task without a table of its own.

    Parameters
    ----------
    folder
        The run folder.
    cell
        Name of the cell.
    task
        The task of the cell.
    model
        Name of the cell's model, as in its records.
    records
        All records of the run; those of other cells are ignored.
    dataset
        Fingerprint of the cell's data; None asks the task, which reads them.
    """
    if not task.has_summary:
        return
    dataset = task.fingerprint() if dataset is None else dataset
    own = [record for record in records if (record.dataset, record.model) == (dataset, model)]
    summary = task.summary(own)
    path = folder / FILE
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found[cell] = summary
    write_whole(path, json.dumps(found, indent=2) + "\n")
    yield from task.summary_lines(summary, cell)
