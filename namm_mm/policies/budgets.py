"""Budgets in words, as configurations and records hold them.

======================  ===============================================================
``full``                never evict
``threshold``           keep what scores >= 0 (the NAMM's own rule); ``threshold:512`` with a limit
``tokens:64``           so many tokens for each layer and head
``fraction:0.25``       this part of the tokens that were seen
``pool:0.25``           this part in each layer, the best tokens of all its heads together
``fraction:0.1:60``     as ``fraction:0.1``, and 60 tokens in any case; ``pool:0.1:60`` likewise
``match:namm``          as many tokens, at every update and in every layer, as that run kept,
                        the same for all heads of a layer
``match_heads:namm``    as many in every layer and head
``match_total:namm``    as many in all, the same for all layers and heads
======================  ===============================================================

With shared storage all heads of a layer keep the same number, and the first two are one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import Budget, KeepAll, Selection, Threshold
from namm_mm.records import Trace

KINDS = (
    "full",
    "threshold",
    "tokens:N",
    "fraction:F[:N]",
    "pool:F[:N]",
    "match:POLICY",
    "match_heads:POLICY",
    "match_total:POLICY",
)

MATCHES: Mapping[str, Callable[[Trace], Trace]] = {
    "match": Trace.even_heads,
    "match_heads": lambda trace: trace,
    "match_total": Trace.even_layers,
}
"""What a budget that follows another policy's run makes of its sizes."""

Traces = Mapping[str, tuple[Trace, ...]]
"""For each traced policy the sizes it kept, one trace for each row of the batch."""


def matched_policy(words: str) -> str | None:
    """Return the policy that a ``match`` budget follows, None for the other kinds."""
    kind, _, rest = words.partition(":")
    return rest if kind in MATCHES else None


def parse(words: str, own: Selection | None = None, traces: Traces | None = None) -> Selection:
    """Turn words into a rule of selection.

    Parameters
    ----------
    words
        One of the forms above.
    own
        The policy's own rule: protected sinks and recent tokens are taken from it.
    traces
        Needed for the ``match`` kinds.

    Raises
    ------
    UsageError
        The words make no budget, or there is no trace to match.
    """
    kind, colon, rest = str(words).partition(":")
    sinks, recents = (own.sinks, own.recents) if isinstance(own, Budget) else (0, 0)
    try:
        if kind == "full" and not colon:
            return KeepAll()
        if kind == "threshold":
            return Threshold(int(rest) if colon else None)
        if kind == "tokens":
            return Budget(tokens=int(rest), sinks=sinks, recents=recents)
        if kind in ("fraction", "pool"):
            part, floor, least = rest.partition(":")
            return Budget(
                fraction=float(part),
                least=int(least) if floor else 1,
                sinks=sinks,
                recents=recents,
                pooled=kind == "pool",
            )
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise _unknown(words) from error
    if kind in MATCHES and rest:
        found = (traces or {}).get(rest)
        if found is None:
            raise UsageError(
                message(
                    "no run to match",
                    given=rest,
                    expected="a policy that ran on the same sample before",
                    valid=traces or (),
                )
            )
        spread = tuple(MATCHES[kind](trace) for trace in found)
        return Budget(trace=spread, matched=words, sinks=sinks, recents=recents)
    raise _unknown(words)


def _unknown(words: object) -> UsageError:
    return UsageError(message("unknown budget", given=words, expected=f"one of {', '.join(KINDS)}"))
