"""The tables of the results page, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from namm_mm.results import words
from namm_mm.results.cells import FULL, NAMM
from namm_mm.results.comparisons import significant
from namm_mm.results.rows import Row
from namm_mm.results.statistics import Difference
from research.benchmarks.common import markdown


def main_table(rows: Sequence[Row]) -> str:
    """Return a table with one line for each policy."""
    places = words.decimals(rows)
    head = ["policy", "n", rows[0].metric.replace("_", " "), "to full", "NAMM - this", "kept"]
    holding = significant(rows)
    lines = []
    for place, row in enumerate(rows):
        budget = "" if row.method.budget == FULL else f" {row.method.budget}"
        later = words.duration(row.token_seconds or row.first_token_seconds)
        lines.append(
            [
                f"{row.method.policy}{budget}",
                f"{row.n}" + (f" ({row.errors} failed)" if row.errors else ""),
                words.with_ends(row.score, places),
                difference(row.to_full, places, bold=place in holding.to_full),
                difference(row.from_namm, places, bold=place in holding.from_namm),
                words.percent(row.kept_fraction),
                words.tokens(row.tokens_final),
                words.size(row.bytes_final),
                later,
            ]
        )
    return markdown([*head, "tokens", "bytes", "time"], lines)


def family_table(rows: Sequence[Row]) -> str:
    """Return the scores by family and policy, and the paired differences of the NAMM."""
    places = words.decimals(rows)
    policies = list(dict.fromkeys(row.method.policy for row in rows))
    cells = {(row.family, row.method.policy): row for row in rows}
    namm = _from_namm(rows, places)
    lines = []
    for family in dict.fromkeys(row.family for row in rows):
        line = [family, str(max(row.n for row in rows if row.family == family))]
        for name in policies:
            row = cells.get((family, name))
            line.append("-" if row is None else words.with_ends(row.score, places))
        lines.append(line)
    paired = []
    for family in dict.fromkeys(row.family for row in rows):
        found = [cells.get((family, name)) for name in policies if name != NAMM]
        paired.append([family, *map(namm, found)])
    others = [f"NAMM - {name}" for name in policies if name != NAMM]
    return (
        markdown(["family", "n", *policies], lines) + "\n\n" + markdown(["family", *others], paired)
    )


def curve_table(rows: Sequence[Row]) -> str:
    """Return the scores by limit and policy, and the paired differences of the NAMM."""
    places = words.decimals(rows)
    limited = [row for row in rows if row.method.policy != FULL]
    labels = [name for name in dict.fromkeys(map(label, limited)) if name != NAMM]
    cells = {(limit(row.method.budget), label(row)): row for row in limited}
    namm = _from_namm(limited, places)
    lines, paired = [], []
    for size in sorted({limit(row.method.budget) for row in limited}):
        found = [cells.get((size, name)) for name in (NAMM, *labels)]
        shown = f"{size:.0%}" if size <= 1 else f"{size:g}"
        lines.append(
            [shown, *("-" if r is None else words.with_ends(r.score, places) for r in found)]
        )
        paired.append([shown, *map(namm, found[1:])])
    full = next((row for row in rows if row.method.policy == FULL), None)
    note = (
        f"\n\nThe full cache: {words.with_ends(full.score, places)} (n = {full.n})." if full else ""
    )
    table = markdown(["limit", NAMM, *labels], lines)
    names = [f"NAMM - {name}" for name in labels]
    return table + note + "\n\n" + markdown(["limit", *names], paired)


def limit(budget: str) -> float:
    """Return the limit of a budget: a fraction, or tokens."""
    return float(budget.split(":")[1])


def label(row: Row) -> str:
    """Return the policy, and whether the heads of a layer share the budget of a baseline."""
    shared = row.method.budget.startswith("pool:") and row.method.policy != NAMM
    return f"{row.method.policy} (pool)" if shared else row.method.policy


def _from_namm(rows: Sequence[Row], places: int) -> Callable[[Row | None], str]:
    """Return what writes the difference of the NAMM to a row of a table."""
    holding = {id(rows[place]) for place in significant(rows).from_namm}

    def written(row: Row | None) -> str:
        if row is None:
            return "-"
        return difference(row.from_namm, places, bold=id(row) in holding)

    return written


def difference(interval: Difference | None, places: int, *, bold: bool) -> str:
    """Return a paired difference."""
    if interval is None:
        return "-"
    text = words.with_ends(interval, places, signed=True)
    return f"**{text}**" if bold else text
