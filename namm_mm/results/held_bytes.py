"""Bytes of a cache right after its last update: where a budget holds, and what tables compare.

Tokens that come later are held until the next update, each with what a policy remembers of it. So
caches of equal bytes differ at the end, and are alike right after an update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from namm_mm.policies.budgets import FRACTIONS
from namm_mm.records import MemoryUse

ROUNDING = 1.005
"""A cache may be so many times its budget: budgets are of whole tokens, and means are rounded."""


@dataclass(frozen=True)
class HeldBytes:
    """Means over samples.

    Attributes
    ----------
    bytes
        Live bytes right after the last update; at the end where nothing was ever evicted. Of
        records that do not tell them, allocated bytes at the end.
    part
        Of what the full cache held of as many tokens; None where that is not known.
    live
        Whether they are live bytes.
    """

    bytes: float
    part: float | None = None
    live: bool = False


def held_bytes(
    uses: Sequence[MemoryUse], full: Sequence[MemoryUse], *, live: bool
) -> HeldBytes | None:
    """Return what the caches of one method held; None for none.

    Parameters
    ----------
    uses, full
        Of this method and of the full cache, on any samples of one cell.
    live
        Whether live bytes are shown: some record of the cell tells those after the last update.
    """
    if not uses:
        return None
    if not live:
        return HeldBytes(fmean(use.bytes_final for use in uses))
    found = [(_live(use), _seen(use)) for use in uses]
    size = fmean(held for held, _ in found)
    plain = [(use.live_final, use.seen) for use in full if use.live_final and use.seen]
    if not plain:
        return HeldBytes(size, live=True)
    token = sum(held for held, _ in plain) / sum(seen for _, seen in plain)
    return HeldBytes(size, size / max(token * fmean(seen for _, seen in found), 1.0), live=True)


def exceeds_budget(budget: str, part: float | None) -> bool:
    """Whether a cache holds more than a budget in bytes allows: what it holds once is too much."""
    kind, _, rest = budget.partition(":")
    _, bytewise = FRACTIONS.get(kind, (False, False))
    return bytewise and part is not None and part > float(rest.partition(":")[0]) * ROUNDING


def _live(use: MemoryUse) -> int:
    if use.live_updated is not None:
        return use.live_updated
    return use.bytes_final if use.live_final is None or use.updates else use.live_final


def _seen(use: MemoryUse) -> int:
    return use.seen if use.seen_updated is None else use.seen_updated
