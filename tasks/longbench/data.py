"""The files of LongBench: ``TASK.jsonl`` in a folder, or in the ``data.zip`` of the hub.

A line is one sample: ``input``, ``context``, ``answers``, ``length``, ``dataset``, ``language``,
``all_classes`` and ``_id``.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from namm_mm.errors import RunError, UsageError, message
from namm_mm.tasks import hub
from namm_mm.tasks.text_files import decode, json_lines

REPOSITORY, ARCHIVE = "THUDM/LongBench", "data.zip"
FAULT = "fault"
FIELDS = {"input": str, "context": str, "answers": list, "_id": str}

Line = Mapping[str, Any]


def read(source: str | None, task: str) -> tuple[tuple[Line, ...], str]:
    """Return the samples of a task in the order of its file, and the SHA-256 of that file.

    A line that is not as it should be has its number as ``_id``, and :data:`FAULT` says why.

    Parameters
    ----------
    source
        A folder that holds ``TASK.jsonl``, ``data/TASK.jsonl`` or ``data.zip``; or a zip file;
        None takes the hub's, from its cache where it is there.

    Raises
    ------
    UsageError
        The file is not there, is not UTF-8, or no line of it is as it should be.
    RunError
        The hub's archive is not in the cache and cannot be fetched, or it is damaged.
    """
    place = Path(source).expanduser() if source is not None else _download()
    return _read(str(place), task)


@lru_cache(maxsize=32)
def _read(place: str, task: str) -> tuple[tuple[Line, ...], str]:
    content, where = _content(Path(place), f"{task}.jsonl")
    lines: list[Any] = []
    for number, row in json_lines(decode(content, where)):
        fault = _fault(row, f"{where}, line {number}")
        lines.append({FAULT: fault, "_id": f"line-{number}"} if fault else row)
    if not lines:
        raise UsageError(
            message("this file of LongBench is empty", given=where, expected="a sample a line")
        )
    if all(FAULT in line for line in lines):
        raise UsageError(lines[0][FAULT])
    return tuple(lines), hashlib.sha256(content).hexdigest()


def _content(place: Path, name: str) -> tuple[bytes, str]:
    """Return the bytes of a file below `place`, and where they were."""
    for path in (place / name, place / "data" / name):
        if path.is_file():
            return path.read_bytes(), str(path)
    archive = place if place.is_file() else place / ARCHIVE
    if archive.is_file():
        try:
            with zipfile.ZipFile(archive) as file:
                members = [m for m in file.namelist() if PurePosixPath(m).name == name]
                if members:
                    return file.read(members[0]), f"{archive}:{members[0]}"
        except (zipfile.BadZipFile, OSError) as error:
            raise RunError(
                message(
                    f"the archive cannot be read ({error})",
                    given=str(archive),
                    expected=f"the {ARCHIVE} of {REPOSITORY}",
                    then="Remove it and get it again: " + _command(),
                )
            ) from error
    raise UsageError(
        message(
            f"no {name}",
            given=str(place),
            expected=f"a folder with {name}, or with the {ARCHIVE} of {REPOSITORY}",
            then="Get it with " + _command(),
        )
    )


def _fault(row: Mapping[str, Any] | str, where: str) -> str:
    """Return what is wrong with a line; empty if it is a sample."""
    if isinstance(row, str):
        wrong, given = row, ""
    else:
        names = [name for name, kind in FIELDS.items() if not isinstance(row.get(name), kind)]
        wrong = str(names or ("" if row["answers"] else "answers"))
        given = str(row)
    if not wrong:
        return ""
    return message(
        f"a malformed sample in {where}",
        given=given[:60],
        expected=f"a JSON object with {', '.join(FIELDS)}; wrong: {wrong}",
    )


def _download() -> Path:
    """Return the hub's archive: from the cache, else fetched."""
    return hub.fetch(
        REPOSITORY,
        ARCHIVE,
        title="LongBench",
        expected="its 114 MB archive, or a folder of your own",
        then=f"Where there is a network: {_command()}, or task.source=FOLDER.",
    )


def _command() -> str:
    return f"`{hub.command(REPOSITORY, ARCHIVE)}`"


def fingerprint(sources: Sequence[str]) -> str:
    """Return a hash of the files behind some tasks."""
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()[:12]
