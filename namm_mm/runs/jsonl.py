"""``records.jsonl``: one record a line, written at once, and read as far as it is whole.

A process killed at any point leaves at most one broken line, the last; readers use all others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError, message
from namm_mm.records import SCHEMA_VERSION, Asked, Media, MemoryUse, Provenance, Record
from namm_mm.runs.disk import write_whole

RECORDS = "records.jsonl"

SWEEP = "sweep.yaml"
"""The file that names the runs of a sweep."""


class NewerRecord(Exception):
    """A record that a newer version of this package wrote."""


def record_line(record: Record) -> str:
    """Return `record` as one line of JSON, without its end."""
    data = {  # `dataclasses.asdict` copies deeply, which takes longer than all the rest
        **vars(record),
        "asked": vars(record.asked),
        "memory": None if record.memory is None else vars(record.memory),
        "media": vars(record.media),
        "provenance": vars(record.provenance),
    }
    return dumps(data)


def write_records(folder: Path, records: Iterable[Record]) -> None:
    """Write the ``records.jsonl`` of a run folder anew, whole or not at all.

    Raises
    ------
    OSError
        It cannot be written.
    """
    write_whole(folder / RECORDS, "".join(record_line(record) + "\n" for record in records))


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
        off, lines that are no records, records of a newer version.

    Raises
    ------
    UsageError
        There is no such file.
    """
    file = path / RECORDS if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            message(
                "no records",
                given=str(path),
                expected=f"a run folder that holds {RECORDS}",
                then=_newest_below(path) or "`namm-mm transfer` prints its run folder at the end.",
            )
        )
    return parse_records(file.read_text(encoding="utf-8", errors="replace"), file.name)


def _newest_below(folder: Path) -> str:
    """Name the newest run or sweep one or two levels below; empty for none."""
    found = {
        file.parent
        for levels in ("*", "*/*")
        for name in (RECORDS, SWEEP)
        for file in folder.glob(f"{levels}/{name}")
    }
    if not found:
        return ""
    newest = max(found, key=lambda run: run.stat().st_mtime)
    runs = "1 run or sweep" if len(found) == 1 else f"{len(found)} runs and sweeps"
    return f"It holds {runs}; the newest: `namm-mm report {newest}`."


def parse_records(text: str, name: str = RECORDS) -> tuple[list[Record], list[str]]:
    """Read the records in the text of a file called `name`; see :func:`read_records`."""
    records: list[Record] = []
    problems: list[str] = []
    newer: list[int] = []
    lines = text.split("\n")  # `str.splitlines` would also split at characters inside strings
    last = len(lines)  # a complete file ends in a newline, which makes the last piece empty
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(parse_record(json.loads(line)))
        except NewerRecord:
            newer.append(number)
        except (ValueError, KeyError, TypeError) as error:
            if number == last:
                problem = "is cut off; the whole records are used"
            else:
                problem = f"is no record and is left out ({type(error).__name__}: {error})"
            problems.append(f"{name}, line {number} {problem}.")
    if newer:
        lines_ = f"line {newer[0]}" if len(newer) == 1 else f"{len(newer)} lines from {newer[0]} on"
        problems.append(
            f"{name}, {lines_}: written by a newer version of namm-mm and left out. "
            "Upgrade to read them: `pip install --upgrade namm-mm`."
        )
    return records, problems


def parse_record(data: Mapping[str, Any]) -> Record:
    """Turn one parsed line into a record; a line of an older schema is converted.

    Raises
    ------
    NewerRecord
        A newer version wrote it.
    KeyError, TypeError, ValueError
        It is no record.
    """
    schema = int(data["schema"])
    if schema > SCHEMA_VERSION:
        raise NewerRecord
    fields = _from_schema_1(data) if schema == 1 else dict(data)
    memory = fields["memory"]
    if memory is not None:
        fields["memory"] = MemoryUse(**{**memory, "kept_by_layer": tuple(memory["kept_by_layer"])})
    asked = fields["asked"]
    fields["asked"] = Asked(**{**asked, "options": tuple(asked["options"])})
    fields["media"] = Media(**fields["media"])
    fields["provenance"] = Provenance(**fields["provenance"])
    return Record(**fields)


def _from_schema_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """Move what schema 1 had in ``details`` to the fields that schema 2 has for it."""
    fields = {**data, "schema": SCHEMA_VERSION, "kept_by_kind": data["kept_by_role"]}
    del fields["kept_by_role"]
    details = dict(data.get("details") or {})
    fields["asked"] = {
        "question": details.pop("question", ""),
        "options": details.pop("options", ()),
        "right_answer": details.pop("right", ""),
        "video": details.pop("video", ""),
    }
    fields["media"] = {name: details.pop(name, "") for name in ("frames", "history")}
    fields["details"] = details
    return fields


def dumps(data: object, indent: int | None = None) -> str:
    """JSON text of nearly anything; absolute paths are cut to their last part.

    The text is valid UTF-8 whatever the strings hold: lone surrogates are written as escapes, which
    JSON readers turn back.
    """
    text = json.dumps(data, ensure_ascii=False, default=_plain, indent=indent)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(data, default=_plain, indent=indent)
    return text


def _plain(value: Any) -> Any:
    """JSON for what is nearly JSON: arrays, tensors, paths (never absolute), sets, mappings."""
    if isinstance(value, Path):
        return value.name if value.is_absolute() else value.as_posix()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    try:
        return value.tolist()
    except AttributeError:
        raise TypeError(f"{type(value).__name__} is not a JSON value") from None
