"""From records to the rows of a result table: one row for each policy and budget in each cell.

A cell is what scores may be compared in: one adapter, model, task and set of samples. Every table,
plot and report, and the summary in W&B, is made from these rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from namm_mm.records import Record
from namm_mm.results.statistics import Interval, mean_interval, mean_or_none, paired_difference

FULL = "full"
NAMM = "namm"


class Cell(NamedTuple):
    """What scores may be compared in."""

    experiment: str
    adapter: str
    model: str
    task: str
    dataset: str

    @property
    def title(self) -> str:
        """Words for a heading."""
        return f"{self.task} with {self.adapter} ({self.model})"


class Method(NamedTuple):
    """How the memory was run."""

    run: str
    policy: str
    budget: str
    storage: str
    protocol: str
    interval: int

    @property
    def label(self) -> str:
        """Policy and budget, as short as they are clear."""
        return self.policy if self.budget in ("", FULL) else f"{self.policy} {self.budget}"


@dataclass(frozen=True)
class Row:
    """One policy at one budget in one cell, over all samples or over one family.

    Attributes
    ----------
    family
        Empty for all samples.
    n, errors
        Samples scored, and samples that failed; failed ones are in no mean.
    score
        Mean score; None where every sample failed.
    to_full
        This policy minus the full cache, on shared samples; None for the full cache itself, and
        where there is none.
    from_namm
        NAMM minus this policy, on shared samples; None for NAMM itself, and where there is none.
    seen, tokens_final, tokens_peak, bytes_final, bytes_peak
        Means over samples; tokens are means over layers and heads, bytes are of the whole cache.
    kept_fraction
        Mean over samples of final tokens by tokens seen.
    first_token_seconds, token_seconds, seconds
        Means over samples; the time of later tokens over samples that had any.
    """

    cell: Cell
    method: Method
    family: str
    metric: str
    n: int
    errors: int
    score: Interval | None
    to_full: Interval | None
    from_namm: Interval | None
    seen: float | None
    tokens_final: float | None
    tokens_peak: float | None
    bytes_final: float | None
    bytes_peak: float | None
    kept_fraction: float | None
    first_token_seconds: float | None
    token_seconds: float | None
    seconds: float | None


def cell_of(record: Record) -> Cell:
    """Return the cell that a record belongs to."""
    return Cell(record.experiment, record.adapter, record.model, record.task, record.dataset)


def method_of(record: Record) -> Method:
    """Return how the memory of a record was run."""
    return Method(
        record.provenance.run,
        record.policy,
        record.budget,
        record.storage,
        record.protocol,
        record.interval,
    )


def failed(record: Record) -> bool:
    """Whether the sample has no usable score: an error, no value, or one that is not finite."""
    return bool(record.error) or record.value is None or not math.isfinite(record.value)


def group(records: Iterable[Record]) -> dict[Cell, dict[Method, list[Record]]]:
    """Sort records into cells and methods: the full cache first, then NAMM, then as they came.

    A sample that a continued run scored again counts once, with its last record.
    """
    cells: dict[Cell, dict[Method, dict[tuple[str, int], Record]]] = {}
    for record in records:
        methods = cells.setdefault(cell_of(record), {})
        methods.setdefault(method_of(record), {})[(record.sample, record.seed)] = record
    first = {FULL: 0, NAMM: 1}
    return {
        cell: {
            method: list(methods[method].values())
            for method in sorted(methods, key=lambda m: first.get(m.policy, 2))
        }
        for cell, methods in cells.items()
    }


def result_rows(records: Iterable[Record], *, by_family: bool = False, seed: int = 0) -> list[Row]:
    """Summarise records.

    Parameters
    ----------
    records
        Of one run or of several.
    by_family
        Give one row for each family of samples instead of one over all.
    seed
        Of the bootstrap.
    """
    rows = []
    for cell, methods in group(records).items():
        families = [""]
        if by_family:
            families = list(dict.fromkeys(r.family for found in methods.values() for r in found))
        for family in families:
            chosen = {
                method: [r for r in found if not by_family or r.family == family]
                for method, found in methods.items()
            }
            values = {method: sample_values(found) for method, found in chosen.items()}
            rows += [
                _row(cell, method, family, chosen[method], values, seed)
                for method in chosen
                if chosen[method]
            ]
    return rows


def sample_values(records: Sequence[Record]) -> dict[str, float]:
    """Map each sample to its score; a mean where it was run with several seeds."""
    found: dict[str, list[float]] = {}
    for record in records:
        if not failed(record):
            found.setdefault(record.sample, []).append(float(record.value or 0.0))
    return {sample: float(np.mean(values)) for sample, values in found.items()}


def _row(
    cell: Cell,
    method: Method,
    family: str,
    records: Sequence[Record],
    values: Mapping[Method, Mapping[str, float]],
    seed: int,
) -> Row:
    good = [record for record in records if not failed(record)]
    uses = [record.memory for record in good if record.memory is not None]
    full = _reference(FULL, method, values)
    namm = _reference(NAMM, method, values)
    own = values[method]
    return Row(
        cell=cell,
        method=method,
        family=family,
        metric=Counter(r.metric for r in good or records).most_common(1)[0][0],
        n=len(good),
        errors=len(records) - len(good),
        score=mean_interval(list(own.values()), seed=seed),
        to_full=paired_difference(own, values[full], seed=seed) if full else None,
        from_namm=paired_difference(values[namm], own, seed=seed) if namm else None,
        seen=mean_or_none([use.seen for use in uses]),
        tokens_final=mean_or_none([use.tokens_final for use in uses]),
        tokens_peak=mean_or_none([use.tokens_peak for use in uses]),
        bytes_final=mean_or_none([use.bytes_final for use in uses]),
        bytes_peak=mean_or_none([use.bytes_peak for use in uses]),
        kept_fraction=mean_or_none(
            [use.kept_fraction for use in uses if use.kept_fraction is not None]
        ),
        first_token_seconds=mean_or_none([r.first_token_seconds for r in good]),
        token_seconds=mean_or_none([r.token_seconds for r in good if r.token_seconds]),
        seconds=mean_or_none([r.seconds for r in good]),
    )


def _reference(policy: str, method: Method, methods: Iterable[Method]) -> Method | None:
    """Find the method of `policy` to compare `method` with: the one run most alike.

    The same limit before another one, whatever the run; then the same run, protocol, storage and
    interval. None where there is none, or where `method` is of that policy itself.
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
        )
        return tuple(a == b for a, b in pairs)

    return max(candidates, key=likeness)


def _room(budget: str) -> str:
    """The budget, however the heads of a layer share it."""
    return budget.replace("pool:", "fraction:")
