"""Subtitles of Video-MME that are shown at the sampled frames, as lmms-eval picks them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

HEADING = "This video's subtitles are listed below: \n"
NONE = "No subtitles available"
_MARKED = re.compile(r'<font color="white" size=".72c">(.*?)</font>')


class Subtitle(NamedTuple):
    """One entry: seconds, and what is shown."""

    start: float
    end: float
    text: str


def read_srt(path: Path) -> list[Subtitle]:
    """Read an .srt file; of two entries with the same times the later one counts."""
    found: dict[tuple[float, float], str] = {}
    for section in path.read_text(encoding="utf-8").split("\n\n"):
        lines = section.split("\n")
        if section.strip() and len(lines) >= 3:
            times = [_seconds(clock) for clock in lines[1].split(" --> ")]
            found[times[0], times[1]] = " ".join(lines[2:])
    return [Subtitle(start, end, text) for (start, end), text in found.items()]


def shown(
    subtitles: Sequence[Subtitle], *, frames: int, total: int, rate: float, in_order: bool
) -> str:
    """The texts that are shown at `frames` of a video's `total` frames, one a line.

    Only texts in the white font of the benchmark's files count.

    Parameters
    ----------
    rate
        Frames per second.
    in_order
        False gives them in the order in which lmms-eval lists them: that of a Python set, which is
        not always the order of time.
    """
    spans = [(int(s.start * rate), int(s.end * rate)) for s in subtitles]
    sampled = np.linspace(0, total - 1, frames, dtype=int).tolist()
    hits = [i for frame in sampled for i, (a, b) in enumerate(spans) if a <= frame < b]
    chosen = sorted(set(hits)) if in_order else list(set(hits))
    texts = [_MARKED.findall(subtitles[index].text) for index in chosen]
    return "\n".join(text[0] for text in texts if text)


@lru_cache(maxsize=4096)
def length_of(path: Path) -> tuple[int, float]:
    """Number of frames of a video, and frames per second, from its header alone."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 0.0)
        total = int(stream.frames)
        if not total and stream.duration and stream.time_base:
            total = round(float(stream.duration * stream.time_base) * rate)
        return total, rate


def _seconds(clock: str) -> float:
    hours, minutes, rest = clock.strip().split(":")
    seconds, thousandths = rest.split(",")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(thousandths) / 1000
