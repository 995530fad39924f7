"""Reports of synthetic records, and what stands in them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from namm_mm.console.table import result_table
from namm_mm.records import MemoryUse, Record
from namm_mm.report.contents import build
from namm_mm.results.blocks import Figure, Report
from namm_mm.runs import RunInfo
from namm_mm.runs.load import load_runs
from namm_mm.tracking import open_run

MEMORY = MemoryUse(256, 2, (256.0,) * 4, 256.0, 256.0, 65536, 65536)


def write(
    folder: Path,
    records: Sequence[Record],
    *,
    notes: tuple[str, ...] = (),
    config: Mapping[str, Any] | None = None,
) -> Path:
    info = RunInfo("pocket", "transfer", config or {}, records[0].provenance, notes=notes)
    with open_run(folder, info, wandb_mode="disabled") as tracker:
        for record in records:
            tracker.record(record)
    return folder


def make_report(folder: Path, records: Sequence[Record]) -> Report:
    return build(load_runs([write(folder, records)]))


def figures(made: Report) -> list[Figure]:
    return [block for s in made.sections for block in s.blocks if isinstance(block, Figure)]


def printed(records: Sequence[Record], width: int = 160) -> str:
    file = io.StringIO()
    Console(width=width, file=file).print(result_table(records))
    return file.getvalue()
