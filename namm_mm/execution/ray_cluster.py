"""Ray on this machine, for one run alone, or a running cluster.

A local Ray listens to this machine only, writes below a temporary folder of its own, and ends with
the run.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from namm_mm.errors import RunError, message
from namm_mm.execution.progress import Progress
from namm_mm.execution.settings import ExecutionSettings
from namm_mm.execution.signals import kept_handlers
from namm_mm.execution.temporary import make_folder, remove_abandoned

STARTS = 3
"""Ray gives itself 30 seconds to start, which a busy machine may exceed."""

REMOVALS = 50
"""Attempts at removing Ray's folder, a tenth of a second apart."""

OBJECTS = 256 * 2**20
"""Bytes of shared memory for what is on its way to workers; a generation is a few megabytes."""


class Cluster:
    """Ray, started here or connected to.

    Parameters
    ----------
    settings
        Its address, or the size of a local one.
    progress
        Is told when a start is tried again.

    Attributes
    ----------
    ray
        The module, connected.

    Raises
    ------
    RunError
        Ray cannot start, or its cluster cannot be reached.
    """

    def __init__(self, settings: ExecutionSettings, progress: Progress) -> None:
        self.settings = settings
        self._folder: Path | None = None
        self._started = False
        with _private(local=settings.address is None):
            import ray

            self.ray: Any = ray
            if not ray.is_initialized():
                with kept_handlers():
                    self._start(progress)

    def close(self) -> None:
        """Stop Ray where it was started here, and remove what it wrote."""
        if self._started:
            with kept_handlers():
                self.ray.shutdown()
            self._started = False
        self._remove_folder()

    def _start(self, progress: Progress) -> None:
        remove_abandoned()
        for attempt in range(1, STARTS + 1):
            try:
                self._init()
                break
            except BaseException as error:  # Ray raises many kinds, and Exception itself
                _clear_up(self.ray, error)
                self._remove_folder()
                if not isinstance(error, Exception):  # Ctrl-C
                    raise
                if "timed out during startup" in str(error) and attempt < STARTS:
                    progress.say("Ray took too long to start: trying again")
                    continue
                raise _unreachable(error, self.settings.address) from error
        self._started = True

    def _init(self) -> None:
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.settings.address is not None:
            self.ray.init(address=self.settings.address, **common)
            return
        self._folder = make_folder()
        self.ray.init(
            num_cpus=self.settings.worker_count * self.settings.threads,
            include_dashboard=False,
            object_store_memory=OBJECTS,
            _temp_dir=str(self._folder),
            **common,
        )

    def _remove_folder(self) -> None:
        """Remove what Ray wrote; those of its processes that are still ending may write more."""
        folder, self._folder = self._folder, None
        for _ in range(REMOVALS):
            if folder is None or not folder.exists():
                return
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():
                time.sleep(0.1)


@contextmanager
def _private(*, local: bool) -> Iterator[None]:
    """Start Ray without news for its makers, on this machine's own address and with a secret token.

    Without them Ray opens its ports to the network and writes a token into the home folder. The
    environment is afterwards as it was; what Ray has started has inherited it, and imports what
    this process can.
    """
    before = dict(os.environ)
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # workers that want no GPU see none
    }
    if local:
        wanted["RAY_worker_niceness"] = "0"  # beside other work, 15 would make a run starve
        wanted["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's own way to stay on 127.0.0.1
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        if not any(name.startswith("RAY_AUTH_") for name in before):
            wanted["RAY_AUTH_TOKEN"] = _token()
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    logger = logging.getLogger("ray._private.authentication")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it announces the token, which is as it should be
    try:
        yield
    finally:
        logger.setLevel(level)
        os.environ.clear()
        os.environ.update(before)


@cache
def _token() -> str:
    """What lets processes of this user's Ray talk to each other.

    One for as long as this process lives: Ray reads its token once, so that a second cluster with
    another one would refuse the process that started it.
    """
    return secrets.token_hex(32)


def _clear_up(ray: Any, error: BaseException) -> None:
    """Stop what a failed start left, whose processes Ray would leave until this one ends."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node: Any = frame.f_locals.get("self")
        if type(node).__name__ == "Node":
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
            break
    ray.shutdown()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _unreachable(error: Exception, address: str | None) -> RunError:
    return RunError(
        message(
            f"Ray cannot be reached ({type(error).__name__}: {error})",
            given=address,
            expected="a running cluster, or null to start one on this machine",
            then="execution=serial needs none.",
        )
    )
