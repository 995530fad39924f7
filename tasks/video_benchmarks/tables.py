"""Rows of a benchmark's annotation file: JSON, JSON lines or parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError, message
from namm_mm.tasks import parquet


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read all rows, in order.

    Raises
    ------
    UsageError
        The file is malformed.
    RunError
        It is parquet, and damaged, or pyarrow is not installed.
    """
    try:
        if path.suffix == ".parquet":
            return parquet.read(path)
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [dict(json.loads(line)) for line in text.splitlines() if line.strip()]
        rows = json.loads(text)
        return [dict(row) for row in (rows.values() if isinstance(rows, Mapping) else rows)]
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(
            message(
                f"cannot read {path} ({str(error).splitlines()[0] if str(error) else error!r})",
                given=path.name,
                expected="a table of the benchmark: JSON, JSON lines or parquet",
            )
        ) from error


def need_fields(rows: Iterable[Mapping[str, Any]], fields: Sequence[str], path: Path) -> None:
    """Raise `UsageError` with the number of the first row that lacks one of `fields`."""
    for number, row in enumerate(rows, start=1):
        for field in fields:
            if row.get(field) is None:
                raise UsageError(
                    message(
                        f"{path}, row {number}: the field {field!r} is missing",
                        given=sorted(row),
                        expected=f"the fields {', '.join(fields)}",
                    )
                )
