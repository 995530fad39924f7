"""The result table of one cell and metric, and what it says in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from namm_mm.results import words
from namm_mm.results.blocks import Column, Entry, Table
from namm_mm.results.cells import FULL, NAMM, Cell
from namm_mm.results.comparisons import by_table, remarks, significant, table_titles
from namm_mm.results.number_tables import interval_entry
from namm_mm.results.rows import Row

LEGEND = (
    "Brackets are 95 % intervals: Wilson's for right-or-wrong scores, else bootstrap over samples "
    "(BCa below 30). Differences are paired, on the same samples. Bold differences hold at 5 %: "
    "paired sign-flip test, corrected by Holm's method over all differences of the table. Kept is "
    "the part of the tokens seen that is cached at the end. Cache bytes are those of the whole "
    "cache right after its last update, when a budget is met, and their part of a full cache of as "
    "many tokens; then at the end, allocated with room for tokens to come, and at the peak. Cache "
    "tokens are per head (mean over layers and heads), at the end. Failed samples are counted and "
    "are in no mean."
)


def result_tables(rows: Sequence[Row]) -> dict[tuple[Cell, str], Table]:
    """Return one table for each cell and metric; each has a heading of its own."""
    titles = table_titles(rows)
    several = len({row.method.run for row in rows}) > 1
    return {
        key: result_table(titles[key], own, runs=several) for key, own in by_table(rows).items()
    }


def result_table(title: str, rows: Sequence[Row], *, runs: bool = False) -> Table:
    """Return the table of one cell and metric.

    Parameters
    ----------
    title
        Its heading.
    rows
        Of one cell and metric; of several families, each row names its own.
    runs
        Whether to name the run of each row.
    """
    families = any(row.family for row in rows)
    variants = len({row.method[3:] for row in rows if row.method.policy != FULL}) > 1
    places = words.decimals(rows)
    held = significant(rows)
    columns = [
        *([Column("run")] if runs else []),
        *([Column("family")] if families else []),
        Column("policy", "its budget below"),
        *([Column("memory", "storage, protocol, update interval", rank=4)] if variants else []),
        Column("n", "samples scored; failed ones below", numeric=True),
        Column(_heading(rows[0].metric), "mean with its 95 % interval", numeric=True),
        Column("to full", "paired difference to the full cache", numeric=True, rank=1),
        Column("NAMM - this", "paired difference of NAMM to this", numeric=True, rank=3),
        Column("kept", "tokens at the end, of those seen", numeric=True, rank=1),
        Column("cache bytes", "whole cache, after its last update", numeric=True, rank=2),
        Column("cache tokens", "per head, at the end", numeric=True, rank=6),
        Column("first token", "time to it, and of each later one", numeric=True, rank=5),
    ]
    lines = []
    for place, row in enumerate(rows):
        method = row.method
        lines.append(
            (
                *([Entry(method.run, value=method.run)] if runs else []),
                *([Entry(row.family, value=row.family)] if families else []),
                Entry(method.policy, "" if method.budget == FULL else method.budget, method.label),
                *(
                    [Entry(f"{method.storage}, {method.protocol}, every {method.interval}")]
                    if variants
                    else []
                ),
                _count(row),
                interval_entry(row.score, places),
                interval_entry(row.to_full, places, signed=True, strong=place in held.to_full),
                interval_entry(row.from_namm, places, signed=True, strong=place in held.from_namm),
                *_sizes(row),
                _times(row),
            )
        )
    note = " ".join(remarks(rows))
    return Table(title, tuple(columns), tuple(lines), note, "" if families else sentence(rows))


def _heading(metric: str) -> str:
    return metric.replace("_", " ") or "score"


def _count(row: Row) -> Entry:
    failed = f"{row.errors:,} failed" if row.errors else ""
    return Entry(f"{row.n:,}", failed, row.n, warning=bool(failed))


def _sizes(row: Row) -> tuple[Entry, Entry, Entry]:
    """Return what was kept, and the size of the cache in bytes and in tokens."""
    tokens, most = words.tokens(row.tokens_final), words.tokens(row.tokens_peak)
    return (
        Entry(
            words.percent(row.kept_fraction),
            "nothing evicted" if row.never_evicted else "",
            row.kept_fraction,
            warning=row.never_evicted,
        ),
        _bytes(row),
        Entry(tokens, f"peak {most}" if most != tokens else "", row.tokens_final),
    )


def _bytes(row: Row) -> Entry:
    """Return the bytes that are compared; below, those that differ, and what is wrong with them."""
    larger, held = row.larger_at_end or row.larger_at_peak, row.held
    first = words.size(held.bytes if held else None)
    live, final = words.size(row.live_final), words.size(row.bytes_final)
    peak, details = words.size(row.bytes_peak), []
    if held and held.live:
        if held.part is not None:
            details.append(f"{words.percent(held.part)} of full")
        details += [f"end {live}"] if live != first else []
        details += [f"allocated {final}"] if final != live else []
    elif live not in (first, words.MISSING):
        details.append(f"live {live}")
    details += [f"peak {peak}"] if peak != final else []
    details += ["over full"] * larger + ["over budget"] * row.over_budget
    return Entry(
        first,
        ", ".join(details),
        held.bytes if held else None,
        warning=larger or row.over_budget,
    )


def _times(row: Row) -> Entry:
    """Return the time to the first token, and of each later one where there were any."""
    later = f"then {words.duration(row.token_seconds)}" if row.token_seconds else ""
    return Entry(words.duration(row.first_token_seconds), later, row.first_token_seconds)


def sentence(rows: Sequence[Row]) -> str:
    """Say in words what NAMM did in one table: only what the numbers say."""
    places = words.decimals(rows)
    namms = [place for place, r in enumerate(rows) if r.method.policy == NAMM and r.score]
    full = next((row for row in rows if row.method.policy == FULL and row.score), None)
    if not namms:
        return f"{words.count(len(rows), 'method')}; NAMM is not among them."
    place, namm = namms[0], rows[namms[0]]
    which = ""
    if len({rows[one].method.budget for one in namms}) > 1:
        which += f" with {namm.method.budget}"
    if len({rows[one].method.run for one in namms}) > 1:
        which += f" in {namm.method.run}"
    text = (
        f"NAMM{which} keeps {words.percent(namm.kept_fraction)} of the tokens and scores "
        f"{words.with_ends(namm.score, places)}"
    )
    if full is not None:
        text += f"; the full cache scores {words.with_ends(full.score, places)}"
    if namm.to_full is not None:
        text += f"; the difference is {words.with_ends(namm.to_full, places, signed=True)}"
        if place not in significant(rows).to_full:
            text += f", which is not significant (n = {namm.to_full.n})"
    return text + "."
