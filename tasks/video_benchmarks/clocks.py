"""Times of subtitles, as they are written in the wild."""

from __future__ import annotations

import math
import re

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?)")


def seconds(clock: object) -> float | None:
    """Return the seconds of ``12.5``, ``mm:ss``, ``h:mm:ss,000`` or a number, else None.

    A number must be finite and not negative.
    """
    if isinstance(clock, bool):
        return None
    if isinstance(clock, int | float):
        return float(clock) if math.isfinite(clock) and clock >= 0 else None
    found = _CLOCK.fullmatch(clock.strip()) if isinstance(clock, str) else None
    if found is None:
        return None
    hours, minutes, rest = found.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest.replace(",", "."))
