"""Fetch D4RL's own files, checked against their published SHA-256."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.errors import RunError, message
from namm_mm.tasks.offline_rl.data import KEYS, Trajectories
from namm_mm.tasks.offline_rl.references import remote_dataset

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 1 << 20


def default_folder() -> Path:
    """Where D4RL itself keeps its files: ``$D4RL_DATASET_DIR``, else ``~/.d4rl/datasets``."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets")


def fetch(
    name: str,
    folder: Path | None = None,
    *,
    on_block: Callable[[int, int], None] | None = None,
) -> Path:
    """Return the local file of a D4RL data set, downloading it if it is not there.

    Parameters
    ----------
    name
        ``hopper-medium-v2`` and the like.
    folder
        Where to keep it; None is :func:`default_folder`.
    on_block
        Told the bytes so far and in all (0 if unknown), for progress.

    Raises
    ------
    UsageError
        The name is unknown.
    RunError
        The host does not answer, or what came does not have the published SHA-256.
    """
    remote = remote_dataset(name)
    folder = folder or default_folder()
    path = folder / remote.url.rpartition("/")[2]
    if path.is_file():
        _check(path, _sha256(path), remote.sha256)
        return path
    partial = path.with_name(path.name + ".tmp")
    digest = hashlib.sha256()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(remote.url, timeout=60) as answer, partial.open("wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(_BLOCK):
                file.write(block)
                digest.update(block)
                if on_block:
                    on_block(file.tell(), total)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunError(
            message(
                f"cannot download D4RL's {name} ({error})",
                given=remote.url,
                expected="an answer from D4RL's host and a writable folder",
                then=f"On another machine: `curl -LO {remote.url}`, then put it into {folder}.",
            )
        ) from error
    try:
        _check(partial, digest.hexdigest(), remote.sha256)
    except RunError:
        partial.unlink()
        raise
    partial.replace(path)
    return path


def from_d4rl_package(name: str) -> Trajectories:
    """Load a data set through the ``d4rl`` package itself (extra ``d4rl``), where that works.

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
    done = np.flatnonzero(arrays["terminals"] | arrays["timeouts"])
    whole = slice(0, int(done[-1]) + 1)
    return Trajectories(*(np.asarray(arrays[key])[whole] for key in KEYS))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise RunError(
            message(
                f"{path} is damaged or not D4RL's",
                given=found,
                expected=f"SHA-256 {expected}",
                then="Delete it and run the command again.",
            )
        )
