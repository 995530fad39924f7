"""The cache of converted models and rendered data, and how a folder of it appears whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from namm_mm.errors import RunError, message


def cache_root() -> Path:
    """``$NAMM_MM_CACHE``, or ``~/.cache/namm-mm``."""
    return Path(os.environ.get("NAMM_MM_CACHE") or "~/.cache/namm-mm").expanduser()


def in_cache(name: str, write: Callable[[Path], None]) -> Path:
    """Let `write` fill the folder `name` of the cache, which appears when it is complete.

    Raises
    ------
    RunError
        The cache cannot be written.
    """
    final = cache_root() / name
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=final.parent))
    except OSError as error:
        raise RunError(
            message(
                "cannot write the cache of converted models",
                given=str(final.parent),
                expected="a writable folder",
                then="Set NAMM_MM_CACHE to one.",
            )
        ) from error
    try:
        write(work)
        work.chmod(0o755)
        try:
            work.rename(final)
        except OSError:
            if not final.is_dir():  # otherwise another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final
