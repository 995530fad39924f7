"""Begin a W&B run, online where W&B can be reached, and end W&B's service quietly."""

from __future__ import annotations

import atexit
import dataclasses
import logging
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

from namm_mm.runs.tracker import RunInfo
from namm_mm.tracking.connection import unreachable

logger = logging.getLogger(__name__)

PROJECT = "namm-mm"

LIMITS = {"init_timeout": ("WANDB_INIT_TIMEOUT", 8.0), "finish_timeout": ("", 120.0)}
"""Seconds that W&B may take to begin and to end a run: W&B's setting, and a variable that sets it.

By default it takes 90 seconds to begin, and for ever to end, where the network is gone."""


def start(
    folder: Path, info: RunInfo, mode: Literal["offline", "online"], identity: str
) -> tuple[Any, bool]:
    """Begin the W&B run of a run folder.

    Parameters
    ----------
    folder
        The run folder.
    info
        Who the run is. Project, entity, name, group and id follow ``WANDB_*`` where set.
    mode
        Without a login or a network, ``online`` becomes ``offline``, with a warning.
    identity
        The run's id in W&B, which is the same however often the run is resumed.

    Returns
    -------
    tuple
        The run, and whether it is offline.
    """
    import wandb

    end_quietly()
    identity = os.environ.get("WANDB_RUN_ID") or identity
    arguments: dict[str, Any] = {
        "project": os.environ.get("WANDB_PROJECT") or PROJECT,
        "group": os.environ.get("WANDB_RUN_GROUP") or info.group or info.experiment,
        "name": os.environ.get("WANDB_NAME") or info.provenance.run,
        "job_type": os.environ.get("WANDB_JOB_TYPE") or info.job_type,
        "tags": [*info.tags, *filter(None, os.environ.get("WANDB_TAGS", "").split(","))],
        "notes": "\n".join(info.notes) or None,
        "config": {**info.config, "provenance": dataclasses.asdict(info.provenance)},
        "dir": str(folder.resolve()),
        "settings": wandb.Settings(**_settings()),
        "reinit": "create_new",
        "id": identity,
    }
    if mode == "online":
        why = unreachable(_address())
        try:
            if not why:
                run = wandb.init(mode="online", resume="allow", **arguments)
                _remove_offline(folder, identity)
                return run, False
        except (wandb.errors.UsageError, wandb.errors.CommError) as error:
            why = str(error).splitlines()[0]
            arguments["id"] = f"{identity}-offline"  # W&B's service may still hold the first one
        logger.warning(
            "W&B cannot be reached (%s); recording offline instead. "
            "Later, `wandb login` and `wandb sync %s/wandb/offline-run-*` send it.",
            why,
            folder,
        )
    _remove_offline(folder, identity)
    return wandb.init(mode="offline", **arguments), True


def _remove_offline(folder: Path, identity: str) -> None:
    """Remove what earlier processes recorded of this run: the new W&B run begins with it."""
    for left in (folder / "wandb").glob(f"offline-run-*-{identity}*"):
        shutil.rmtree(left, ignore_errors=True)


def _settings() -> dict[str, Any]:
    import wandb

    wanted: dict[str, Any] = {"console": "off", "silent": True, "finish_timeout_raises": True}
    for name, (variable, seconds) in LIMITS.items():
        if variable not in os.environ:
            wanted[name] = seconds
    known = wandb.Settings.model_fields  # older versions know fewer
    return {name: value for name, value in wanted.items() if name in known}


def _address() -> str:
    """Address of W&B, as its environment variables and settings files say."""
    import wandb

    try:
        address = wandb.sdk.wandb_setup.singleton().settings.base_url
    except AttributeError:  # not a public name
        address = os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url
    return str(address)


@cache
def end_quietly() -> None:
    """End W&B's service before its own exit hook does.

    That one prints a traceback where the service was killed. Hooks run last to first, so that this
    one is registered when W&B has registered its own.
    """
    import wandb

    wandb.setup()  # starts the service, which registers W&B's hook

    def end() -> None:
        with suppress(Exception):
            wandb.teardown()

    atexit.register(end)
