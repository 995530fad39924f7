"""``records.jsonl``: one record a line, written at once, and read as far as it is whole.

A process killed at any point leaves at most one broken line, the last; readers use all before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from namm_mm.errors import UsageError, message
from namm_mm.records import SCHEMA_VERSION, MemoryUse, Provenance, Record

RECORDS = "records.jsonl"


def write_record(file: TextIO, record: Record) -> None:
    """Append `record` to an open text file as one line, and flush it."""
    data = {  # `dataclasses.asdict` copies deeply, which takes longer than all the rest
        **vars(record),
        "memory": None if record.memory is None else vars(record.memory),
        "provenance": vars(record.provenance),
    }
    file.write(dumps(data) + "\n")
    file.flush()


def read_records(path: Path) -> tuple[list[Record], list[str]]:
    """Read the records of a run.

    Parameters
    ----------
    path
        A run folder, or a ``records.jsonl``.

    Returns
    -------
    tuple
        The records in the order written, and what was wrong, one sentence each: a line that was cut
        off, a line that is no record.

    Raises
    ------
    UsageError
        There is no such file, or a newer version of this package wrote it.
    """
    file = path / RECORDS if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            message(
                "no records",
                given=str(path),
                expected=f"a run folder that holds {RECORDS}",
                then="Run folders are printed at the end of `namm-mm transfer`.",
            )
        )
    records: list[Record] = []
    problems: list[str] = []
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    last = len(lines)  # a complete file ends in a newline, which makes the last piece empty
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(parse_record(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UsageError):
                raise UsageError(f"{file.name}, line {number}: {error}") from error
            if number == last:
                problem = f"is cut off; the {len(records)} records before it are used"
            else:
                problem = f"is no record and is left out ({type(error).__name__}: {error})"
            problems.append(f"{file.name}, line {number} {problem}.")
    return records, problems


def parse_record(data: Mapping[str, Any]) -> Record:
    """Turn one parsed line into a record.

    Raises
    ------
    UsageError
        A newer version wrote it.
    KeyError, TypeError, ValueError
        It is no record.
    """
    schema = int(data["schema"])
    if schema > SCHEMA_VERSION:
        raise UsageError(
            message(
                "records from a newer version",
                given=f"schema {schema}",
                expected=f"at most {SCHEMA_VERSION}",
                then="Upgrade: `pip install --upgrade namm-mm`.",
            )
        )
    fields = dict(data)
    memory = fields["memory"]
    if memory is not None:
        fields["memory"] = MemoryUse(**{**memory, "kept_by_layer": tuple(memory["kept_by_layer"])})
    fields["provenance"] = Provenance(**fields["provenance"])
    return Record(**fields)


def dumps(data: object, indent: int | None = None) -> str:
    """JSON text of nearly anything; absolute paths are cut to their last part."""
    return json.dumps(data, ensure_ascii=False, default=_plain, indent=indent)


def _plain(value: Any) -> Any:
    """JSON for what is nearly JSON: arrays, tensors, paths (never absolute), sets, mappings."""
    if isinstance(value, Path):
        return value.name if value.is_absolute() else value.as_posix()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON value")
