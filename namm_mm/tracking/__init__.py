"""Tracking: records on disk are the truth, W&B mirrors them.

::

    info = RunInfo("pocket", "transfer", config, provenance.collect(config_hash, "cpu"))
    with open_run(folder, info, wandb_mode="offline") as tracker:
        tracker.record(record)
"""

from __future__ import annotations

import os
from pathlib import Path

from namm_mm.errors import UsageError, message
from namm_mm.tracking import jsonl, provenance
from namm_mm.tracking.base import RunInfo, Status, Tracker, Value
from namm_mm.tracking.jsonl import JsonlTracker, RunState, read_records, read_state
from namm_mm.tracking.tee import Tee

__all__ = [
    "RunInfo",
    "RunState",
    "Status",
    "Tracker",
    "Value",
    "jsonl",
    "open_run",
    "provenance",
    "read_records",
    "read_state",
    "wandb_mode_from_environment",
]

WANDB_MODES = ("offline", "online", "disabled")


def open_run(folder: Path, info: RunInfo, *, wandb_mode: str = "offline") -> Tracker:
    """Begin to track a run.

    Parameters
    ----------
    folder
        The run folder; everything lands under it, W&B's files included.
    info
        Who the run is.
    wandb_mode
        ``offline``, ``online`` or ``disabled``. The variable ``WANDB_MODE``, where set, wins:
        clusters set it.

    Raises
    ------
    UsageError
        The folder cannot be written, or the mode is unknown.
    """
    mode = wandb_mode_from_environment(wandb_mode)
    local = JsonlTracker(folder, info)
    if mode == "disabled":
        return local

    def mirror() -> Tracker:
        from namm_mm.tracking.wandb import WandbTracker

        return WandbTracker(folder, info, mode=mode)

    return Tee(local, mirror)


def wandb_mode_from_environment(mode: str) -> str:
    """Return the W&B mode to use: ``WANDB_MODE`` (or ``WANDB_DISABLED``) where set, else `mode`.

    Raises
    ------
    UsageError
        The mode is unknown.
    """
    if os.environ.get("WANDB_DISABLED", "").lower() in {"1", "true"}:
        return "disabled"
    mode = os.environ.get("WANDB_MODE") or mode
    mode = {"dryrun": "offline", "run": "online"}.get(mode, mode)  # W&B's older names
    if mode not in WANDB_MODES:
        raise UsageError(
            message("unknown W&B mode", given=mode, expected="a mode of W&B", valid=WANDB_MODES)
        )
    return mode
