"""Fetch D4RL's own files, checked against their published SHA-256."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.errors import RunError, message
from namm_mm.tasks.offline_rl import resumable
from namm_mm.tasks.offline_rl.data import KEYS, TIME_LIMIT, Trajectories, cut
from namm_mm.tasks.offline_rl.references import remote_dataset

if TYPE_CHECKING:
    from collections.abc import Callable


def default_folder() -> Path:
    """Return the folder of D4RL itself: ``$D4RL_DATASET_DIR``, else ``~/.d4rl/datasets``."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets")


def fetch(
    name: str,
    folder: Path | None = None,
    *,
    on_block: Callable[[int, int], None] | None = None,
) -> Path:
    """Return the local file of a D4RL data set, downloading it if it is not there.

    A download that was stopped is resumed: see :mod:`namm_mm.tasks.offline_rl.resumable`.

    Parameters
    ----------
    name
        Name of the data set, such as ``hopper-medium-v2``.
    folder
        Where to keep it; None is :func:`default_folder`.
    on_block
        Called with the bytes so far and in all (0 if unknown), for progress.

    Raises
    ------
    UsageError
        The name is unknown.
    RunError
        The host does not answer, or the file does not have the published SHA-256.
    """
    remote = remote_dataset(name)
    folder = folder or default_folder()
    path = folder / remote.url.rpartition("/")[2]
    if path.is_file():
        resumable.check(path, remote.sha256)
        return path
    return resumable.download(remote.url, path, remote.sha256, on_block=on_block)


def from_d4rl_package(name: str) -> Trajectories:
    """Return a data set that the ``d4rl`` package loads (extra ``d4rl``).

    It needs mujoco-py and the binaries of MuJoCo 2.1.0; :func:`fetch` needs neither and gives the
    same arrays.

    Raises
    ------
    RunError
        The package is absent or cannot be imported.
    """
    remote_dataset(name)
    try:
        import d4rl  # noqa: F401  (registers its environments)
        import gym  # type: ignore[import-not-found]

        arrays: dict[str, Any] = gym.make(name).get_dataset()
    except Exception as error:  # mujoco-py raises a plain Exception when its binaries are missing
        reason = (str(error).strip().splitlines() or [""])[0]
        raise RunError(
            message(
                f"the d4rl package does not work here ({type(error).__name__}: {reason})",
                given=name,
                expected="`pip install 'namm-mm[d4rl]'`, mujoco-py and the MuJoCo 2.1.0 binaries",
                then="namm_mm.tasks.offline_rl.fetch needs none of them.",
            )
        ) from error
    terminals = np.asarray(arrays["terminals"], dtype=np.bool_)
    if "timeouts" not in arrays:
        arrays["timeouts"] = cut(terminals, TIME_LIMIT)
    done = np.flatnonzero(terminals | arrays["timeouts"])
    if not len(done):
        raise RunError(message(f"{name}: no episode ends", given=len(terminals), expected="one"))
    whole = slice(0, int(done[-1]) + 1)
    return Trajectories(*(np.asarray(arrays[key])[whole] for key in KEYS))
