"""Put subtitles among the places for frames, as lmms-eval's ``longvideobench_val_i`` does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError, message
from namm_mm.records import FRAME_MARK


def frame_moments(duration: float, frames: int) -> list[float]:
    """When `frames` frames are, in seconds; of a shorter video, one a second."""
    if duration > frames:
        return [duration / frames * index for index in range(frames)]
    return [float(second) for second in range(int(duration))]


def interleave(
    moments: Sequence[float],
    subtitles: Iterable[Mapping[str, Any]],
    *,
    start: float,
    duration: float,
) -> str:
    """Lines of frame marks and subtitles, in order of time.

    Parameters
    ----------
    moments
        When the frames are, in seconds.
    subtitles
        Entries with ``timestamp`` (start and end) and ``text``, or with ``start``, ``end`` (as
        hours:minutes:seconds) and ``line``. One is put in at its middle, if a frame falls inside
        it; shorter ones than a second count as one second long.
    start
        What the subtitles' clock says at the beginning of the video.
    duration
        End, in seconds, of a subtitle whose own is no decimal number, as the benchmark has it.
    """
    lines: list[str] = []
    shown = 0
    for subtitle in subtitles:
        begin, end, text = _span(subtitle, duration)
        begin, end = begin - start, end - start
        middle = (begin + end) / 2
        while shown < len(moments) and moments[shown] <= middle:
            lines.append(FRAME_MARK)
            shown += 1
        if end - begin < 1:
            begin, end = middle - 0.5, middle + 0.5
        if any(begin < moment < end for moment in moments):
            lines.append(text)
    return "\n".join(lines + [FRAME_MARK] * (len(moments) - shown))


def read_subtitles(path: Path) -> list[dict[str, Any]] | None:
    """Read a subtitle file of the benchmark; None where there is none.

    Raises
    ------
    UsageError
        It is malformed.
    """
    if not path.is_file():
        return None
    try:
        return [dict(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise UsageError(
            message(
                f"cannot read the subtitles {path.name} ({error})",
                given=str(path),
                expected="a JSON list, as in the benchmark's subtitles.tar",
                then="task.subtitles=false asks without them.",
            )
        ) from error


def _span(subtitle: Mapping[str, Any], duration: float) -> tuple[float, float, str]:
    if "timestamp" in subtitle:
        begin, end = subtitle["timestamp"]
        return float(begin), end if isinstance(end, float) else duration, str(subtitle["text"])
    return _seconds(subtitle["start"]), _seconds(subtitle["end"]), str(subtitle["line"])


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
