"""The plots of the results page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from namm_mm.results.cells import FULL, NAMM
from namm_mm.results.rows import Row
from namm_mm.results.statistics import Interval
from research.benchmarks.results_tables import label, limit

COLORS = {
    "full": "black", "namm": "#d62728", "h2o": "#1f77b4", "l2": "#9467bd",
    "h2o_16": "#1f77b4", "l2_all": "#9467bd", "recency": "#2ca02c",
    "random": "#ff7f0e", "attention_max": "#8c564b", "attention_ema": "#e377c2",
}  # fmt: skip


def draw_families(rows: Sequence[Row], file: Path) -> None:
    """Draw the score of every policy for every family, with intervals."""
    families = list(dict.fromkeys(row.family for row in rows))
    by_policy: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.score:
            by_policy[row.method.policy].append(row)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(by_policy)
    for place, (name, own) in enumerate(by_policy.items()):
        scores = [row.score for row in own if row.score]
        at = [
            families.index(row.family) + (place - len(by_policy) / 2 + 0.5) * width for row in own
        ]
        heights, color = [s.mean for s in scores], COLORS.get(name)
        axes.bar(at, heights, width, label=name, color=color, yerr=_errors(scores), ecolor="gray")
    axes.set_xticks(range(len(families)), families)
    axes.set_ylabel(rows[0].metric.replace("_", " "))
    figure.legend(loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(file, dpi=100, metadata={"Software": None})


def draw_curve(rows: Sequence[Row], file: Path) -> None:
    """Draw the score against the fraction of the cache that is kept, with intervals.

    Where limits are tokens, the score is drawn against them: the fraction would depend on the
    length of the episodes.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    lines: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        lines[label(row)].append(row)
    in_tokens = any(row.method.budget.startswith("tokens:") for row in rows)

    def size(row: Row) -> float:
        return limit(row.method.budget) if in_tokens else 100 * (row.kept_fraction or 0.0)

    for name, own in lines.items():
        own = own if name == FULL else sorted(own, key=size)
        scores = [row.score for row in own if row.score]
        if name == FULL:
            axes.axhline(scores[0].mean, color="black", linewidth=0.8, linestyle="--", label=name)
            continue
        axes.errorbar(
            [size(row) for row in own], [s.mean for s in scores],
            yerr=_errors(scores), marker="x" if " " in name else "o", capsize=2, label=name,
            color=COLORS.get(name.split()[0]), linewidth=2.2 if name == NAMM else 1.2,
        )  # fmt: skip
    kept = "limit, tokens" if in_tokens else "tokens kept at the end, %"
    axes.set(xlabel=kept, ylabel=rows[0].metric.replace("_", " "))
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(file, dpi=100, metadata={"Software": None})


def _errors(scores: Sequence[Interval]) -> list[list[float]]:
    """Return the lengths of the error bars, below and above."""
    below = [max(0.0, s.mean - s.low) for s in scores]  # rounding at a score of 0
    return [below, [max(0.0, s.high - s.mean) for s in scores]]
