"""Read an offline W&B run back: what would be uploaded, record by record. W&B ships no reader.

A ``run-ID.wandb`` file is a log in the framing of LevelDB: a header of 7 bytes, then blocks of
32 KiB that hold fragments, each ``crc32 u32 | length u16 | kind u8`` and a payload; a fragment is a
whole message or its first, a middle, or its last part. A message is a protobuf ``Record``.
"""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from namm_mm.errors import RunError

_BLOCK = 32 * 1024
_HEADER = b":W&B"
_HEADER_SIZE = 7
_FRAGMENT_SIZE = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """What an offline run holds.

    Attributes
    ----------
    kinds
        How many records there are of each type.
    config, summary
        Nested values; a summary key keeps its slashes.
    history
        One mapping for each ``log`` call; nested keys are joined by slashes.
    artifacts
        Name, type, metadata, and the names of the files.
    metrics
        A defined metric (or glob) to the axis it runs along.
    exit_code
        None while the run has not ended.
    """

    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    kinds: Counter[str] = field(default_factory=Counter)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = field(default_factory=list)
    metrics: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None


def read_offline_run(folder: Path) -> OfflineRun:
    """Read the run of ``wandb/offline-run-...``.

    Raises
    ------
    RunError
        There is not exactly one ``.wandb`` file, or a checksum is wrong.
    """
    # The protobuf classes alone; they start nothing.
    message_type = import_module("wandb.proto.wandb_internal_pb2").Record
    files = sorted(folder.glob("*.wandb"))
    if len(files) != 1:
        raise RunError(f"{folder} holds {len(files)} .wandb files, expected one.")
    run = OfflineRun()
    for payload in messages(files[0].read_bytes()):
        record = message_type.FromString(payload)
        kind = record.WhichOneof("record_type")
        run.kinds[kind] += 1
        part = getattr(record, kind)
        if kind == "run":
            run.name, run.project, run.tags = part.display_name, part.project, tuple(part.tags)
            run.group, run.job_type = part.run_group, part.job_type
            run.config.update(_items(part.config.update))
        elif kind == "config":
            run.config.update(_items(part.update))
        elif kind == "summary":
            run.summary.update(_items(part.update))
        elif kind == "history":
            run.history.append(_items(part.item))
        elif kind == "metric":
            run.metrics[part.name or part.glob_name] = part.step_metric
        elif kind == "artifact":
            names = tuple(entry.path for entry in part.manifest.contents)
            metadata = json.loads(part.metadata or "{}")
            run.artifacts.append((part.name, part.type, metadata, names))
        elif kind == "exit":
            run.exit_code = part.exit_code
    return run


def read_finished_run(folder: Path, seconds: float = 20.0) -> OfflineRun:
    """Read a run that has ended: W&B's service writes the last records a moment after that."""
    end = time.monotonic() + seconds
    found = read_offline_run(folder)
    while found.exit_code is None and time.monotonic() < end:
        time.sleep(0.05)
        found = read_offline_run(folder)
    return found


def messages(data: bytes) -> Iterator[bytes]:
    """Yield the payload of each complete message; one that is cut off at the end is left out.

    Raises
    ------
    RunError
        It is no such file, or a checksum is wrong.
    """
    if data[: len(_HEADER)] != _HEADER:
        raise RunError("this is no .wandb file: it does not begin with ':W&B'.")
    at, parts = _HEADER_SIZE, b""
    while at + _FRAGMENT_SIZE <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _FRAGMENT_SIZE:  # the rest of a block that no fragment fits in is padding
            at += left
            continue
        checksum = int.from_bytes(data[at : at + 4], "little")
        size = int.from_bytes(data[at + 4 : at + 6], "little")
        kind = data[at + 6]
        payload = data[at + _FRAGMENT_SIZE : at + _FRAGMENT_SIZE + size]
        if len(payload) < size:
            return
        if zlib.crc32(bytes([kind]) + payload) != checksum:
            raise RunError(f"the .wandb file is damaged: wrong checksum at byte {at}.")
        at += _FRAGMENT_SIZE + size
        parts = payload if kind in (_FULL, _FIRST) else parts + payload
        if kind in (_FULL, _LAST):
            yield parts


def _items(items: Any) -> dict[str, Any]:
    return {
        "/".join(item.nested_key) if item.nested_key else item.key: json.loads(item.value_json)
        for item in items
    }
