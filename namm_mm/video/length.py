"""How many frames a video has."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from namm_mm.errors import RunError, message
from namm_mm.video.scan import look, opened, pick


def frame_count(path: Path) -> tuple[int, float]:
    """Return how many frames a video has, and how many of them a second; 0 if that is not known.

    The header says it in MP4 and AVI; elsewhere the packets are counted.

    Raises
    ------
    RunError
        The file cannot be opened, or holds no video.
    """
    try:
        return _frame_count(path, path.stat().st_mtime_ns)
    except Exception as error:  # libav has errors of its own, few of them documented
        raise RunError(
            message(
                f"cannot tell the length of the video {path.name!r} ({error})",
                given=str(path),
                expected="a video file",
            )
        ) from error


@lru_cache(maxsize=4096)
def _frame_count(path: Path, _changed: int) -> tuple[int, float]:
    with opened(path) as container:
        stream = pick(container)
        if stream.frames:
            return stream.frames, float(stream.average_rate or stream.guessed_rate or 0)
    counted = look(path)
    return counted.packets, counted.rate
