"""Records made small enough to be committed: what tables and curves need, and nothing else.

A line of the file is one method and one metric in one cell: what all its records share, and a short
row of numbers for each sample. Answers, frames and what was kept of each token are left out.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError, message
from namm_mm.records import MemoryUse, Provenance, Record
from namm_mm.results.cells import by_metric, failed, group
from namm_mm.runs.jsonl import dumps

COLUMNS = (
    "sample", "family", "seed", "value", "seen", "updates", "tokens_peak", "tokens_final",
    "bytes_peak", "bytes_final", "live_peak", "live_final", "seen_updated", "tokens_updated",
    "live_updated", "seconds", "first_token_seconds", "token_seconds",
)  # fmt: skip
SHARED = (
    "experiment", "adapter", "model", "task", "dataset", "policy", "budget", "storage", "protocol",
    "interval", "metric",
)  # fmt: skip
_MEMORY = COLUMNS[4:15]
_DIGITS = 4


def write_slim(path: Path, records: Iterable[Record]) -> int:
    """Write `records` to `path`, packed if it ends in ``.gz``; return the size of the file."""
    lines = []
    for methods in group(records).values():
        for metric, measured in by_metric(methods).items():
            for found in measured.values():
                best = next((record for record in found if not failed(record)), found[0])
                shared = {name: getattr(best, name) for name in SHARED}
                shared |= {"metric": metric, "provenance": asdict(best.provenance)}
                rows = [_row(record) for record in found]
                lines.append(dumps({**shared, "columns": COLUMNS, "rows": rows}))
    content = ("\n".join(lines) + "\n").encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(content)


def read_slim(path: Path) -> list[Record]:
    """Read records back; what was left out is empty, and failed samples say so.

    Raises
    ------
    UsageError
        The file is missing, or a line of it is not what :func:`write_slim` writes.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        lines = content.decode().rstrip("\n").split("\n")
    except OSError as error:
        raise UsageError(
            message(
                "cannot read slim records",
                given=str(path),
                expected=f"a file ({error.strerror})",
                then="`python research/benchmarks/results_page.py RUN` writes one from a run.",
            )
        ) from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            shared = json.loads(line)
            columns = shared.pop("columns")
            provenance = Provenance(**shared.pop("provenance"))
            rows = [dict(zip(columns, row, strict=True)) for row in shared.pop("rows")]
            records += [_record(shared, provenance, row) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                message(
                    f"{path}, line {number}: not slim records ({type(error).__name__}: {error})",
                    given=line[:60],
                    expected="one method in one cell, with its rows",
                )
            ) from error
    return records


def _row(record: Record) -> list[Any]:
    memory = {} if record.memory is None else asdict(record.memory)
    row = [memory.get(c) if c in _MEMORY else getattr(record, c) for c in COLUMNS]
    if failed(record):
        row[COLUMNS.index("value")] = None
    return [round(value, _DIGITS) if isinstance(value, float) else value for value in row]


def _record(shared: dict[str, Any], provenance: Provenance, row: dict[str, Any]) -> Record:
    use = {name: row.pop(name, None) for name in _MEMORY}  # older files tell of fewer
    memory = None if use["seen"] is None else MemoryUse(kept_by_layer=(), **use)
    return Record(
        **shared,
        **row,
        answer="",
        memory=memory,
        kept_by_kind={},
        kept_by_index={},
        error="" if row["value"] is not None else "failed",
        provenance=provenance,
    )
