"""Rows of a benchmark's annotation file: JSON, JSON lines or parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError, message
from namm_mm.tasks import parquet
from namm_mm.tasks.text_files import json_lines, read_text

Rows = list[dict[str, Any] | str]


def read_rows(path: Path) -> Rows:
    """Return all rows, in order; a string stands for a row that is no object, and says why.

    Raises
    ------
    UsageError
        The file is malformed.
    RunError
        It is parquet, and damaged, or pyarrow is not installed.
    """
    if path.suffix == ".parquet":
        return list(parquet.read(path))
    text = read_text(path)
    if path.suffix == ".jsonl":
        return [row for _, row in json_lines(text)]
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(path, str(error)) from error
    if isinstance(rows, Mapping):
        rows = list(rows.values())
    if not isinstance(rows, list):
        raise _malformed(path, f"it is {type(rows).__name__}, no list")
    return [dict(row) if isinstance(row, Mapping) else "no JSON object" for row in rows]


def _malformed(path: Path, why: str) -> UsageError:
    return UsageError(
        message(
            f"cannot read {path} ({why})",
            given=path.name,
            expected="a table of the benchmark: JSON, JSON lines or parquet",
        )
    )
