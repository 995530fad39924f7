"""Put subtitles among the places for frames, as lmms-eval's ``longvideobench_val_i`` does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from namm_mm.errors import UsageError, message
from namm_mm.records import FRAME_MARK
from namm_mm.tasks.text_files import is_there, read_text
from namm_mm.tasks.video_benchmarks.clocks import seconds


def frame_moments(duration: float, frames: int) -> list[float]:
    """Return the times of `frames` frames in seconds; in a shorter video, one a second."""
    if duration > frames:
        return [duration / frames * index for index in range(frames)]
    return [float(second) for second in range(int(duration))]


class Line(NamedTuple):
    """A subtitle: seconds of its clock, and its text."""

    begin: float
    end: float
    text: str


def interleave(
    moments: Sequence[float],
    subtitles: Iterable[object],
    *,
    start: float,
    duration: float,
) -> str:
    """Return lines of frame marks and subtitles, in order of time.

    Parameters
    ----------
    moments
        When the frames are, in seconds.
    subtitles, duration
        As in :func:`placed`. One is put in at its middle, if a frame falls inside it; shorter ones
        than a second count as one second long.
    start
        What the subtitles' clock says at the beginning of the video.
    """
    lines: list[str] = []
    shown = 0
    for begin, end, text in placed(subtitles, duration)[0]:
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


def placed(subtitles: Iterable[object], duration: float) -> tuple[list[Line], int]:
    """Return the subtitles whose times and text can be read, and how many cannot.

    Parameters
    ----------
    subtitles
        Entries with ``timestamp`` (start and end) and ``text``, or with ``start``, ``end`` (a clock
        such as ``h:mm:ss``) and ``line``.
    duration
        End, in seconds, of a ``timestamp`` whose own is no decimal number, as the benchmark has it.
    """
    found, unread = [], 0
    for subtitle in subtitles:
        line = _line(subtitle, duration)
        if line is None:
            unread += 1
        else:
            found.append(line)
    return found, unread


def read_subtitles(path: Path) -> list[object] | None:
    """Return the entries of a subtitle file of the benchmark; None where there is none.

    Raises
    ------
    UsageError
        It is malformed.
    """
    if not is_there(path):
        return None
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise _malformed(path, str(error)) from error
    if not isinstance(found, list):
        raise _malformed(path, f"it is {type(found).__name__}, no list")
    return found


def _malformed(path: Path, why: str) -> UsageError:
    return UsageError(
        message(
            f"cannot read the subtitles {path.name} ({why})",
            given=str(path),
            expected="a JSON list, as in the benchmark's subtitles.tar",
            then="task.subtitles=false asks without them.",
        )
    )


def _line(subtitle: object, duration: float) -> Line | None:
    if not isinstance(subtitle, Mapping):
        return None
    if "timestamp" in subtitle:
        times, text = subtitle["timestamp"], subtitle.get("text")
        if not isinstance(times, list) or len(times) != 2:
            return None
        begin = seconds(times[0])
        end = seconds(times[1]) if isinstance(times[1], float) else duration
    else:
        begin, end = seconds(subtitle.get("start")), seconds(subtitle.get("end"))
        text = subtitle.get("line")
    if begin is None or end is None or text is None:
        return None
    return Line(begin, end, str(text))
