"""Tracking: records on disk are the truth, W&B mirrors them.

::

    info = RunInfo("pocket", "transfer", config, provenance.collect(config_hash, "cpu"))
    with open_run(folder, info, wandb_mode="offline") as tracker:
        tracker.record(record)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from namm_mm.errors import UsageError, message
from namm_mm.runs.local import LocalTracker
from namm_mm.runs.tracker import RunInfo, Tracker
from namm_mm.tracking.tee import Tee
from namm_mm.tracking.wandb import WandbTracker

__all__ = ["open_run", "resolve_wandb_mode"]

WANDB_MODES = ("offline", "online", "disabled")


def open_run(folder: Path, info: RunInfo, *, wandb_mode: str | None = None) -> Tracker:
    """Begin to track a run.

    Parameters
    ----------
    folder
        The run folder; everything lands under it, W&B's files included.
    info
        Who the run is.
    wandb_mode
        ``offline``, ``online`` or ``disabled``; None asks the variable ``WANDB_MODE``, and is
        ``offline`` where that is not set.

    Raises
    ------
    UsageError
        The folder cannot be written, or the mode is unknown.
    """
    mode = resolve_wandb_mode(wandb_mode)
    local = LocalTracker(folder, info)
    if mode == "disabled":
        return local

    def mirror() -> Tracker:
        return WandbTracker(folder, info, mode=mode, identity=local.id)

    return Tee(local, mirror)


def resolve_wandb_mode(mode: str | None) -> Literal["offline", "online", "disabled"]:
    """Return the W&B mode to use: `mode`, else that of the environment, else ``offline``.

    Raises
    ------
    UsageError
        The mode is unknown.
    """
    if mode is None:
        off = os.environ.get("WANDB_DISABLED", "").lower() in {"1", "true"}
        mode = "disabled" if off else os.environ.get("WANDB_MODE") or "offline"
    mode = {"dryrun": "offline", "run": "online"}.get(mode, mode)  # W&B's older names
    match mode:
        case "offline" | "online" | "disabled":
            return mode
    raise UsageError(
        message("unknown W&B mode", given=mode, expected="a mode of W&B", valid=WANDB_MODES)
    )
