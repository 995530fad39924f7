"""Subtitles of Video-MME that are shown at the sampled frames, as lmms-eval picks them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from namm_mm.tasks.text_files import read_text
from namm_mm.tasks.video_benchmarks.clocks import seconds

HEADING = "This video's subtitles are listed below: \n"
NONE = "No subtitles available"
_MARKED = re.compile(r'<font color="white" size=".72c">(.*?)</font>')


class Subtitle(NamedTuple):
    """One entry: seconds, and what is shown."""

    start: float
    end: float
    text: str


def read_srt(path: Path) -> tuple[list[Subtitle], int]:
    """Read an .srt file; of two entries with the same times the later one counts.

    An entry begins at the line with its times, and ends before the number of the next one: empty
    lines inside of a text are part of it.

    Returns
    -------
    tuple
        The entries, and how many more have times that cannot be read.

    Raises
    ------
    UsageError
        The file is not UTF-8.
    """
    lines = read_text(path).split("\n")
    begins = [at for at in range(len(lines)) if _begins(lines, at)]
    found: dict[tuple[float, float], str] = {}
    unread = 0
    for begin, after in zip(begins, [*begins[1:], len(lines) + 1], strict=False):
        text = [line for line in lines[begin + 1 : after - 1] if line.strip()]
        start, end = _times(lines[begin])
        if start is None or end is None:
            unread += 1
        elif text:
            found[start, end] = " ".join(text)
    return [Subtitle(start, end, text) for (start, end), text in found.items()], unread


def _begins(lines: Sequence[str], at: int) -> bool:
    """Whether a line has the times of an entry; a text may have an arrow too."""
    if "-->" not in lines[at]:
        return False
    numbered = at > 0 and lines[at - 1].strip().isdigit()
    return numbered or None not in _times(lines[at])


def _times(line: str) -> tuple[float | None, float | None]:
    start, _, end = line.partition("-->")
    return seconds(start), seconds((end.split() or [""])[0])


def shown(
    subtitles: Sequence[Subtitle], *, frames: int, total: int, rate: float, in_order: bool
) -> str:
    """Return the texts that are shown at `frames` of a video's `total` frames, one a line.

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
