"""A benchmark's own table, made from records: overall, by group, and what was counted on the way.

Differences to lmms-eval, on purpose: a macro mean is over the groups that were asked (there, a
group without a sample counts as 0), and samples that failed are counted and in no mean (there, a
missing video ends the run).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from namm_mm.records import Record

FLAGS = (
    "drawn",
    "unreachable",
    "without_subtitles",
    "subtitles_mixed_up",
    "subtitles_left_out",
)
"""Counted for every policy, where a record's details have them."""


def summarise(
    records: Iterable[Record], groupings: Sequence[str], macro: str | None = None
) -> dict[str, Any]:
    """Make the table of every policy.

    Parameters
    ----------
    records
        Of one cell.
    groupings
        Names in the records' details to group by.
    macro
        The grouping whose groups count equally in ``overall``; None counts samples equally.

    Returns
    -------
    dict
        Policy and budget to ``overall`` (percent), ``n``, ``errors``, ``unparsed``, the counts of
        :data:`FLAGS`, one mapping for each grouping, and ``missing``: videos that were not read.
    """
    policies: dict[str, list[Record]] = {}
    for record in records:
        budget = "" if record.budget in ("", "full") else f" {record.budget}"
        policies.setdefault(f"{record.policy}{budget}", []).append(record)
    return {name: _table(found, groupings, macro) for name, found in policies.items()}


def lines(summary: Mapping[str, Any], title: str) -> Iterable[str]:
    """Yield a summary in words, one line for each policy."""
    for policy, table in summary.items():
        if table["overall"] is None:
            yield f"{title}, {policy}: no sample could be scored, {table['errors']} errors"
            continue
        counted = ", ".join(
            f"{table[key]} {key.replace('_', ' ')}"
            for key in ("errors", "unparsed", *FLAGS)
            if table[key]
        )
        yield (
            f"{title}, {policy}: {table['overall']:.1f} ({table['mean']}, n={table['n']}"
            + (f"; {counted})" if counted else ")")
        )


def _table(records: list[Record], groupings: Sequence[str], macro: str | None) -> dict[str, Any]:
    good = [r for r in records if not r.error and r.value is not None]
    groups = {name: _by(good, name) for name in groupings}
    if not good:
        overall = None
    elif macro is not None:
        overall = _mean([group["score"] for group in groups[macro].values()])
    else:
        overall = _percent(good)
    counts = {flag: sum(bool(r.details.get(flag)) for r in good) for flag in FLAGS}
    return {
        "overall": overall,
        "mean": f"macro mean over {macro}" if macro else "mean over questions",
        "n": len(good),
        "errors": len(records) - len(good),
        "unparsed": sum(not r.details.get("parsed", True) for r in good),
        **counts,
        **groups,
        "missing": sorted({r.asked.video for r in records if r.error and r.asked.video}),
    }


def _by(records: list[Record], name: str) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(str(record.details.get(name, "")), []).append(record)
    return {
        group: {"score": _percent(found), "n": len(found)}
        for group, found in sorted(groups.items())
    }


def _percent(records: list[Record]) -> float:
    return 100.0 * _mean([float(r.value or 0.0) for r in records])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
