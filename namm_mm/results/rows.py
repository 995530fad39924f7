"""From records to the rows of a result table: one row for each policy and budget.

A cell is what scores may be compared in: one adapter, model, task and set of samples. Scores of
different metrics are never averaged: a cell has one table for each metric. Every table, figure and
report, and the summary in W&B, is made from these rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from namm_mm.records import MemoryUse, Record
from namm_mm.results.cells import (
    FULL,
    NAMM,
    Cell,
    Method,
    by_metric,
    failed,
    group,
    sample_values,
)
from namm_mm.results.held_bytes import HeldBytes, exceeds_budget, held_bytes
from namm_mm.results.statistics import (
    Difference,
    Interval,
    mean_interval,
    mean_or_none,
    paired_difference,
)

ROUNDING = 1e-6
"""Two sizes that differ by less, relatively, are the same."""


@dataclass(frozen=True)
class Row:
    """One policy at one budget in one cell, over all samples or over one family.

    Attributes
    ----------
    family
        Empty for all samples.
    metric
        Name of the score; samples with another metric are in rows of their own.
    n, errors
        Samples scored, and samples that failed; failed ones are in no mean.
    score
        Mean score; None where every sample failed.
    full, namm
        The methods that this one is compared with; None where there is none.
    to_full
        This policy minus `full`, on shared samples.
    from_namm
        `namm` minus this policy, on shared samples.
    seen, tokens_final, tokens_peak, bytes_final, bytes_peak, live_final, live_peak
        Means over samples; tokens are means over layers and heads, bytes are of the whole cache:
        allocated, and live ones.
    kept_fraction
        Mean over samples of final tokens by tokens seen.
    first_token_seconds, token_seconds, seconds
        Means over samples; the time of later tokens over samples that had any.
    never_evicted
        Whether a policy other than the full cache dropped no token of any sample.
    larger_at_end, larger_at_peak
        Whether the cache takes more bytes than that of `full`.
    held
        Bytes right after the last update, which tables and curves compare; None without records.
    over_budget
        Whether that is more than its budget in bytes.
    """

    cell: Cell
    method: Method
    family: str
    metric: str
    n: int
    errors: int
    score: Interval | None
    full: Method | None
    namm: Method | None
    to_full: Difference | None
    from_namm: Difference | None
    seen: float | None
    tokens_final: float | None
    tokens_peak: float | None
    bytes_final: float | None
    bytes_peak: float | None
    live_final: float | None
    live_peak: float | None
    kept_fraction: float | None
    first_token_seconds: float | None
    token_seconds: float | None
    seconds: float | None
    never_evicted: bool
    larger_at_end: bool
    larger_at_peak: bool
    held: HeldBytes | None
    over_budget: bool


def result_rows(records: Iterable[Record], *, by_family: bool = False, seed: int = 0) -> list[Row]:
    """Return the rows of all tables, cell by cell and metric by metric.

    Parameters
    ----------
    records
        Of one run or of several.
    by_family
        Give one row for each family of samples instead of one over all.
    seed
        Of the bootstrap and of the paired test.
    """
    rows = []
    for cell, methods in group(records).items():
        for metric, measured in by_metric(methods).items():
            families = dict.fromkeys(r.family for found in measured.values() for r in found)
            for family in families if by_family else ("",):
                chosen = {
                    method: [r for r in found if not by_family or r.family == family]
                    for method, found in measured.items()
                }
                rows += _table(cell, metric, family, chosen, seed)
    return rows


class _Sizes(NamedTuple):
    """Means of what the caches of one method held, over samples."""

    seen: float | None
    tokens_final: float | None
    tokens_peak: float | None
    bytes_final: float | None
    bytes_peak: float | None
    live_final: float | None
    live_peak: float | None
    kept_fraction: float | None
    kept_everything: bool


def _uses(records: Sequence[Record]) -> list[MemoryUse]:
    return [r.memory for r in records if r.memory is not None and not failed(r)]


def _sizes(uses: Sequence[MemoryUse]) -> _Sizes:
    return _Sizes(
        seen=mean_or_none([use.seen for use in uses]),
        tokens_final=mean_or_none([use.tokens_final for use in uses]),
        tokens_peak=mean_or_none([use.tokens_peak for use in uses]),
        bytes_final=mean_or_none([use.bytes_final for use in uses]),
        bytes_peak=mean_or_none([use.bytes_peak for use in uses]),
        live_final=mean_or_none([use.live_final for use in uses if use.live_final is not None]),
        live_peak=mean_or_none([use.live_peak for use in uses if use.live_peak is not None]),
        kept_fraction=mean_or_none(
            [use.kept_fraction for use in uses if use.kept_fraction is not None]
        ),
        kept_everything=bool(uses) and all(map(_kept_everything, uses)),
    )


def _kept_everything(use: MemoryUse) -> bool:
    return use.tokens_final >= use.seen * (1 - ROUNDING)


def _exceeds(size: float | None, other: float | None) -> bool:
    return size is not None and other is not None and size > other * (1 + ROUNDING)


def _table(
    cell: Cell,
    metric: str,
    family: str,
    records: Mapping[Method, Sequence[Record]],
    seed: int,
) -> list[Row]:
    """Return one row for each method that has records."""
    values = {method: sample_values(found) for method, found in records.items()}
    uses = {method: _uses(found) for method, found in records.items()}
    sizes = {method: _sizes(found) for method, found in uses.items()}
    live = any(use.live_updated is not None for found in uses.values() for use in found)
    rows = []
    for method, found in records.items():
        if not found:
            continue
        good = [record for record in found if not failed(record)]
        own, scores = sizes[method], values[method]
        full, namm = (_reference(policy, method, values) for policy in (FULL, NAMM))
        whole = sizes[full] if full else None
        held = held_bytes(uses[method], uses[full] if full else (), live=live)
        rows.append(
            Row(
                cell=cell,
                method=method,
                family=family,
                metric=metric,
                n=len(good),
                errors=len(found) - len(good),
                score=mean_interval(list(scores.values()), seed=seed),
                full=full,
                namm=namm,
                to_full=paired_difference(scores, values[full], seed=seed) if full else None,
                from_namm=paired_difference(values[namm], scores, seed=seed) if namm else None,
                seen=own.seen,
                tokens_final=own.tokens_final,
                tokens_peak=own.tokens_peak,
                bytes_final=own.bytes_final,
                bytes_peak=own.bytes_peak,
                live_final=own.live_final,
                live_peak=own.live_peak,
                kept_fraction=own.kept_fraction,
                first_token_seconds=mean_or_none([t for r in good if (t := r.first_token_seconds)]),
                token_seconds=mean_or_none([r.token_seconds for r in good if r.token_seconds]),
                seconds=mean_or_none([r.seconds for r in good]),
                never_evicted=method.policy != FULL and own.kept_everything,
                larger_at_end=whole is not None and _exceeds(own.bytes_final, whole.bytes_final),
                larger_at_peak=whole is not None and _exceeds(own.bytes_peak, whole.bytes_peak),
                held=held,
                over_budget=held is not None and exceeds_budget(method.budget, held.part),
            )
        )
    return rows


def _reference(policy: str, method: Method, methods: Iterable[Method]) -> Method | None:
    """Find the method of `policy` to compare `method` with: the one run most alike.

    The same limit before another one, whatever the run; then the same run, protocol, storage and
    interval, and whether the heads of a layer share it. None where there is none, or where `method`
    is of that policy itself.
    """
    if method.policy == policy:
        return None
    candidates = [other for other in methods if other.policy == policy]
    if not candidates:
        return None

    def likeness(other: Method) -> tuple[bool, ...]:
        pairs = (
            (_room(other.budget), _room(method.budget)),
            (other.run, method.run),
            (other.protocol, method.protocol),
            (other.storage, method.storage),
            (other.interval, method.interval),
            (other.budget, method.budget),
        )
        return tuple(a == b for a, b in pairs)

    return max(candidates, key=likeness)


def _room(budget: str) -> str:
    """The budget, however the heads of a layer share it."""
    return budget.replace("pool_bytes:", "bytes:").replace("pool:", "fraction:")
