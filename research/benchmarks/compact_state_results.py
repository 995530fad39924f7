"""The results of ``compact_state.py``: a line for each sample, and their table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from namm_mm.results.statistics import paired_difference
from research.benchmarks.common import machine, markdown


@dataclass(frozen=True)
class Line:
    """One sample of one row of the table.

    Attributes
    ----------
    row, sample
        What it is a result of.
    overlap
        Jaccard index of the two kept sets; None where nothing was evicted.
    scores, live
        Score, and live bytes at the end, with the float32 state and with the compact one; empty
        where none was asked for.
    """

    row: str
    sample: str
    overlap: float | None
    scores: tuple[float, ...] = ()
    live: tuple[int, ...] = ()


def read(path: Path) -> dict[tuple[str, str], Line]:
    """Return the lines that are there, by row and sample."""
    found = {}
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            line = Line(**json.loads(text))
            found[line.row, line.sample] = line
    return found


def table(lines: Sequence[Line], about: str) -> str:
    """Return the results as Markdown, with what they are `about` below."""
    rows = []
    for name in sorted({line.row for line in lines}):
        own = [line for line in lines if line.row == name]
        overlaps = [line.overlap for line in own if line.overlap is not None]
        cells = [name, str(len(own)), f"{np.mean(overlaps):.4f}", f"{min(overlaps):.4f}"]
        if own[0].scores:
            exact, compact = ({line.sample: line.scores[i] for line in own} for i in (0, 1))
            change = paired_difference(compact, exact)
            told = (
                ""
                if change is None
                else f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
            )
            live = np.array([line.live for line in own]).mean(0)
            cells += [f"{np.mean([*scores.values()]):.3f}" for scores in (exact, compact)] + [told]
            cells += [f"{live[1] / live[0]:.3f}"]
        rows.append(cells + [""] * (8 - len(cells)))
    head = ("row", "n", "overlap", "lowest", "score, float32", "score, compact", "change", "bytes")
    return (
        "# A NAMM in 34 bytes a token\n\n"
        "`python research/benchmarks/compact_state.py` makes this table.\n\n"
        f"{markdown(head, rows)}\n\n"
        "`overlap` and `lowest` are the Jaccard index, mean over samples and the lowest of one; "
        "`bytes` are those of the whole cache with the compact state, as a part of those with "
        f"float32. {machine()}.\n\n{about}"
    )
