"""Numbers as people read them; the same words in the console, HTML, Markdown and W&B."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from namm_mm.results.statistics import Interval

if TYPE_CHECKING:
    from namm_mm.results.rows import Row


MISSING = "-"


def decimals(rows: Iterable[Row]) -> int:
    """Decimals for the scores of one table: three for scores up to ten, one for larger ones."""
    means = [abs(row.score.mean) for row in rows if row.score and math.isfinite(row.score.mean)]
    return 1 if means and max(means) >= 10 else 3


def number(value: float | None, places: int = 3, *, signed: bool = False) -> str:
    """Word a number with `places` decimals: ``0.817``; a dash for None."""
    if value is None:
        return MISSING
    return f"{value:+.{places}f}" if signed else f"{value:.{places}f}"


def mean(interval: Interval | None, places: int = 3, *, signed: bool = False) -> str:
    """Word the mean of an interval alone."""
    return MISSING if interval is None else number(interval.mean, places, signed=signed)


def ends(interval: Interval | None, places: int = 3, *, signed: bool = False) -> str:
    """Word the ends of an interval alone: ``[0.71, 0.90]``; ``[n = 1]`` where it has none."""
    if interval is None:
        return ""
    if not interval.known:
        return f"[n = {interval.n}]"
    enough = places if interval.high - interval.low < 0.05 else min(places, 2)
    low, high = (number(end, enough, signed=signed) for end in (interval.low, interval.high))
    return f"[{low}, {high}]"


def with_ends(interval: Interval | None, places: int = 3, *, signed: bool = False) -> str:
    """Mean and ends on one line."""
    words = mean(interval, places, signed=signed), ends(interval, places, signed=signed)
    return " ".join(words).rstrip()


def tokens(value: float | None) -> str:
    """A number of tokens; a fraction of one is shown only for small sizes."""
    if value is None:
        return MISSING
    return f"{value:.1f}" if value < 100 and value != round(value) else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes in binary units: ``1.5 MiB``."""
    if value is None:
        return MISSING
    divisor, unit = byte_unit(value)
    return f"{value / divisor:.{0 if unit == 'B' else 1}f} {unit}"


def byte_unit(largest: float) -> tuple[float, str]:
    """The binary unit in which a number of bytes is read best: its size, and its name."""
    for divisor, name in ((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB")):
        if largest < 1024 * divisor:
            return divisor, name
    return 2.0**30, "GiB"


def duration(seconds: float | None) -> str:
    """A time in the unit that fits: ``850 µs``, ``12 ms``, ``3.4 s``, ``5 min``, ``2.5 h``."""
    if seconds is None:
        return MISSING
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1e-2:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def percent(fraction: float | None) -> str:
    """A fraction as a percentage: ``37 %``; one decimal below ten."""
    if fraction is None:
        return MISSING
    return f"{100 * fraction:.1f} %" if fraction < 0.1 else f"{100 * fraction:.0f} %"


def count(number: int, noun: str) -> str:
    """A number of things: ``1 run``, ``2,000 runs``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def one_line(text: str, limit: int = 160) -> str:
    """The text on one line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
