"""The state of a run: what it is, how far it got, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

RUN = "run.json"


@dataclass(frozen=True)
class RunState:
    """What ``run.json`` says: who the run is and how far it got.

    Attributes
    ----------
    status
        ``running`` (still going, or killed), or one of :data:`namm_mm.tracking.base.Status`.
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


def read_state(folder: Path) -> RunState:
    """Read ``run.json``; without one, or with a damaged one, the status is ``unknown``."""
    try:
        data = json.loads((folder / RUN).read_text(encoding="utf-8"))
        known = {field.name for field in fields(RunState)}
        data = {key: value for key, value in data.items() if key in known}
        data["tags"], data["notes"] = tuple(data.get("tags", ())), tuple(data.get("notes", ()))
        return RunState(**data)
    except (OSError, ValueError, TypeError, AttributeError):
        return RunState(status="unknown")
