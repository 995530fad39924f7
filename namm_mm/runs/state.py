"""The state of a run: what it is, how far it got, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from namm_mm.runs.disk import write_whole
from namm_mm.runs.jsonl import dumps

RUN = "run.json"


@dataclass(frozen=True)
class RunState:
    """What ``run.json`` says: who the run is and how far it got.

    Attributes
    ----------
    status
        ``running`` (still going, or killed), or one of :data:`namm_mm.runs.tracker.Status`.
    id
        The run's identity in W&B; the same however often the run is resumed.
    """

    status: str
    experiment: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    finished: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""

    @property
    def name(self) -> str:
        """Name of the run; empty where the file does not say."""
        return str(self.provenance.get("run") or "")


def read_state(folder: Path) -> RunState:
    """Read ``run.json``; without one, or with a damaged one, the status is ``unknown``."""
    try:
        data = json.loads((folder / RUN).read_text(encoding="utf-8"))
        known = {field.name for field in fields(RunState)}
        data = {key: value for key, value in data.items() if key in known}
        data["tags"], data["notes"] = tuple(data.get("tags", ())), tuple(data.get("notes", ()))
        for key in ("config", "provenance", "summary"):
            data[key] = dict(data.get(key) or {})
        if data.get("status") == "preempted":  # the word of version 0.1
            data["status"] = "stopped"
        return RunState(**data)
    except (OSError, ValueError, TypeError, AttributeError):
        return RunState(status="unknown")


def write_state(folder: Path, state: RunState) -> None:
    """Replace ``run.json`` in one step, so that a reader never sees half of it.

    Raises
    ------
    OSError
        It cannot be written; the file is as it was.
    """
    write_whole(folder / RUN, dumps(asdict(state), indent=2) + "\n")
