"""Budgets: how many of the scored tokens stay, as objects and in words.

Configurations and records hold the words. In Python a number is a fraction: ``H2O(budget=0.25)``.

======================  ==================================================================
``full``                never evict
``threshold``           keep what scores >= 0 (the NAMM's own rule); ``threshold:512`` with a limit
``tokens:64``           so many tokens for each layer and head
``fraction:0.25``       this part of the tokens that were seen; ``0.25`` alone is the same
``pool:0.25``           this part in each layer, the best tokens of all its heads together
``fraction:0.1:60``     as ``fraction:0.1``, and 60 tokens in any case; ``pool:0.1:60`` likewise
``bytes:0.25``          this part of the *bytes* of a full cache: what a policy remembers of each
                        token counts too; ``pool_bytes:0.25`` where heads share them
``heads:FILE``          for each layer and head its part of the tokens that were seen, of a table:
                        a bundled name, or a file of ``namm-mm build head-table``
``match:namm``          as many tokens, at every update and in every layer, as that run kept,
                        the same for all heads of a layer
``match_heads:namm``    as many in every layer and head
``match_total:namm``    as many in all, the same for all layers and heads
``match_bytes:namm``    as many *bytes* in every layer: what a policy remembers beside the tokens
                        counts too, so one that remembers less holds more tokens
======================  ==================================================================

With shared storage all heads of a layer keep the same number, so that ``match`` and ``match_heads``
are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from namm_mm.errors import UsageError, message
from namm_mm.policies.head_need import HeadNeed
from namm_mm.policies.head_table import HeadTable, load_table
from namm_mm.records import Trace

FRACTIONS: Mapping[str, tuple[bool, bool]] = {
    "fraction": (False, False),
    "pool": (True, False),
    "bytes": (False, True),
    "pool_bytes": (True, True),
}
"""Kinds of a fraction: whether the heads of a layer share it, and whether it is of bytes."""


@dataclass(frozen=True)
class KeepAll:
    """Never evict."""

    def describe(self) -> str:
        """Words for a record's `budget`."""
        return "full"


@dataclass(frozen=True)
class Threshold:
    """Keep every token whose score is >= 0; the newest always stays (the official NAMM rule).

    Attributes
    ----------
    limit
        Optional hard limit of tokens per head, taken before the threshold.
    """

    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(
                message("wrong limit", given=self.limit, expected="None or a size >= 1")
            )

    def describe(self) -> str:
        """Words for a record's `budget`."""
        return "threshold" if self.limit is None else f"threshold:{self.limit}"


@dataclass(frozen=True)
class Budget:
    """Keep the best tokens up to a size; one of `tokens`, `fraction`, `trace`, `table` is set.

    Attributes
    ----------
    tokens
        Size per layer and head.
    fraction
        Size as a part, in (0, 1], of the tokens that the row has seen at the time of the update.
    least
        With `fraction`: so many tokens in any case, as long as there are no more. A part of a short
        history can be too little to act on.
    pooled
        The heads of a layer share its size: the best tokens of all of them stay, wherever they are
        (as in Ada-KV, arXiv 2407.11550). Needs sizes per head.
    trace
        Sizes that another run really used on this sample, per update, layer and head (``match``);
        one trace, or one for each row of the batch.
    matched
        The words that asked for a trace or a table, for the record: ``match:namm``.
    bytewise
        The sizes of a `trace` or a `fraction` are of bytes, not of tokens (``match_bytes``).
    floor
        With `pooled`: part of an equal share that each head keeps in any case.
    beta
        The lowest layers get more and the highest a `beta`-th of the mean; None is equal layers
        (PyramidKV, arXiv 2406.02069).
    table
        A part of the tokens that were seen for each layer and head (``heads:FILE``).
    whole_layers
        With `tokens` or `fraction`: so many of the lowest layers keep every token.
    need
        With `tokens` or `fraction`: that is the mean of all heads, and each gets what it needs.
    """

    tokens: int | None = None
    fraction: float | None = None
    trace: Trace | tuple[Trace, ...] | None = None
    matched: str = ""
    pooled: bool = False
    least: int = 1
    bytewise: bool = False
    floor: float = 0.0
    beta: float | None = None
    whole_layers: int = 0
    table: HeadTable | None = None
    need: HeadNeed | None = None

    def __post_init__(self) -> None:
        sizes = (self.tokens, self.fraction, self.trace, self.table)
        given = [size for size in sizes if size is not None]
        if len(given) != 1:
            raise UsageError(
                message(
                    "wrong budget",
                    given={"tokens": self.tokens, "fraction": self.fraction, "trace": self.trace},
                    expected="exactly one of tokens, fraction, trace and table",
                )
            )
        for what, right, expected in (
            (self.tokens, self.tokens is None or self.tokens >= 1, "tokens >= 1"),
            (self.fraction, self.fraction is None or 0 < self.fraction <= 1, "0 < fraction <= 1"),
            (self.least, self.least >= 1, "least >= 1"),
            ("pyramid and probed", not (self.beta and self.need), "sizes by layer or by need"),
        ):
            if not right:
                raise UsageError(message("wrong budget", given=what, expected=expected))

    def trace_of(self, row: int) -> Trace:
        """Return the trace that `row` of the batch follows."""
        if isinstance(self.trace, Trace):
            return self.trace
        if self.trace is None or row >= len(self.trace):
            raise UsageError(
                message("no trace for this row", given=row, expected="one trace for each row")
            )
        return self.trace[row]

    @property
    def uneven(self) -> bool:
        """Whether heads of one layer get sizes of their own, which needs storage per head."""
        return self.pooled or self.table is not None or self.need is not None

    def size(self, seen: int) -> int:
        """Tokens for each head under a `fraction`, after `seen` tokens."""
        return max(self.least, round((self.fraction or 0.0) * seen))

    def describe(self) -> str:
        """Words for a record's `budget`."""
        if self.tokens is not None:
            return f"tokens:{self.tokens}"
        if self.fraction is not None:
            least = f":{self.least}" if self.least > 1 else ""
            kind = next(k for k, how in FRACTIONS.items() if how == (self.pooled, self.bytewise))
            return f"{kind}:{self.fraction:g}{least}"
        return self.matched or "match"


Selection = KeepAll | Threshold | Budget

KEEP_ALL = KeepAll()
THRESHOLD = Threshold()
QUARTER = Budget(fraction=0.25)

AnyBudget = Selection | str | float
"""What a policy takes as its budget: a rule, the words of one, or a fraction of the tokens seen."""

KINDS = (
    *("full", "threshold", "tokens:N", "fraction:F[:N]", "pool:F[:N]", "bytes:F[:N]"),
    *("pool_bytes:F[:N]", "heads:FILE", "match:POLICY", "match_heads:POLICY"),
    *("match_total:POLICY", "match_bytes:POLICY"),
)

MATCHES: Mapping[str, Callable[[Trace], Trace]] = {
    "match": Trace.even_heads,
    "match_heads": lambda trace: trace,
    "match_total": Trace.even_layers,
    "match_bytes": Trace.even_heads,
}
"""What a budget that follows another policy's run makes of its sizes."""

Traces = Mapping[str, tuple[Trace, ...]]
"""For each traced policy the sizes it kept, one trace for each row of the batch."""


def matched_policy(words: str) -> str | None:
    """Return the policy that a ``match`` budget follows, None for the other kinds."""
    kind, _, rest = words.partition(":")
    return rest if kind in MATCHES else None


def parse(words: str, traces: Traces | None = None) -> Selection:
    """Turn words into a rule of selection.

    Parameters
    ----------
    words
        One of the forms above.
    traces
        Needed for the ``match`` kinds.

    Raises
    ------
    UsageError
        The words make no budget, or there is no trace to match.
    """
    kind, colon, rest = words.partition(":")
    if not colon and "." in kind:  # a bare fraction
        kind, rest = "fraction", kind
    try:
        if kind == "full" and not colon:
            return KeepAll()
        if kind == "threshold":
            return Threshold(int(rest) if colon else None)
        if kind == "tokens":
            return Budget(tokens=int(rest))
        if kind == "heads" and rest:
            return Budget(table=load_table(rest), matched=f"heads:{PurePath(rest).stem}")
        if kind in FRACTIONS:
            part, floor, least = rest.partition(":")
            pooled, bytewise = FRACTIONS[kind]
            return Budget(
                fraction=float(part),
                least=int(least) if floor else 1,
                pooled=pooled,
                bytewise=bytewise,
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
        return Budget(trace=spread, matched=words, bytewise=kind == "match_bytes")
    raise _unknown(words)


def selection_of(budget: AnyBudget) -> Selection:
    """Return the rule of selection that a policy was given as its `budget`.

    Parameters
    ----------
    budget
        A rule itself, the words of one, or a number: that part of the tokens seen.

    Raises
    ------
    UsageError
        It is none of these.
    """
    if isinstance(budget, Selection):
        return budget
    return parse(str(budget))


def _unknown(words: str) -> UsageError:
    digits = words.isdigit()
    return UsageError(
        message(
            "unknown budget",
            given=words,
            expected=f"one of {', '.join(KINDS)}",
            then=f"For a number of tokens write tokens:{words}." if digits else "",
        )
    )
