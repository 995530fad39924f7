"""What a policy is: what it observes, a score for every cached token, and a rule of selection.

A policy knows no modality and no model. It sees one layer at a time, through a :class:`LayerView`,
and answers with a score for each slot; the memory keeps the best ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from namm_mm.errors import UsageError, message
from namm_mm.records import Trace

if TYPE_CHECKING:
    from torch import Tensor


class Observation(Enum):
    """Statistics of the attention that the memory streams for a policy, without building it."""

    NONE = "none"
    COLUMN_SUMS = "column_sums"
    COLUMN_MAXIMA = "column_maxima"
    DECAYED_SUMS = "decayed_sums"
    SPECTROGRAM = "spectrogram"


@dataclass(frozen=True)
class LayerView:
    """One layer's cache as a policy sees it, right before an eviction.

    Slots of a head are in order of position, oldest first, at the front of the slot axis; empty
    slots follow and hold position -1. Whatever a policy scores there is ignored.

    Attributes
    ----------
    layer, layers
        Index of this layer and the number of layers.
    keys, values
        (row, kv_head, slot, head_dim), in the model's dtype, rotary embedding applied.
    positions
        (row, kv_head, slot) int64: index of the token in its row, padding not counted.
    lengths
        (row, kv_head) int64 on the same device: number of filled slots.
    seen
        Tokens that these rows have processed so far; the newest has position ``seen - 1``.
    statistics
        What was observed, each (row, kv_head, slot, ...) float32, of attention that is a mean over
        the query group: ``column_sums`` (...,) all that was received so far; ``column_maxima``
        (...,) the most from one query; ``decayed_sums`` (...,) a sum that fades with every query,
        by the policy's ``decay``; ``spectrogram`` (..., bins).
    rows
        Which rows of the batch these are: rows that have seen unlike numbers of tokens are scored
        apart. Empty where nobody said so.
    limits
        (row, kv_head) int64: how many tokens will stay at most; where heads share a size, their
        mean. None where the rule of selection names no size.
    """

    layer: int
    layers: int
    keys: Tensor
    values: Tensor
    positions: Tensor
    lengths: Tensor
    seen: int
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    limits: Tensor | None = None

    @property
    def filled(self) -> Tensor:
        """(row, kv_head, slot) bool: slots that hold a token."""
        import torch

        slots = torch.arange(self.positions.shape[-1], device=self.positions.device)
        return slots < self.lengths[..., None]

    @property
    def age(self) -> Tensor:
        """(row, kv_head, slot) int64: how many tokens came after this one."""
        return (self.seen - 1) - self.positions


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
    """Keep the best tokens up to a size; exactly one of `tokens`, `fraction`, `trace` is set.

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
        The words that asked for it, for the record: ``match:namm``.
    sinks, recents
        The first and the last so many tokens of the row are protected, inside the budget.
    """

    tokens: int | None = None
    fraction: float | None = None
    trace: Trace | tuple[Trace, ...] | None = None
    matched: str = ""
    sinks: int = 0
    recents: int = 0
    pooled: bool = False
    least: int = 1

    def __post_init__(self) -> None:
        given = [v for v in (self.tokens, self.fraction, self.trace) if v is not None]
        if len(given) != 1:
            raise UsageError(
                message(
                    "wrong budget",
                    given={"tokens": self.tokens, "fraction": self.fraction, "trace": self.trace},
                    expected="exactly one of tokens, fraction and trace",
                )
            )
        if self.tokens is not None and self.tokens < 1:
            raise UsageError(message("wrong budget", given=self.tokens, expected="tokens >= 1"))
        if self.fraction is not None and not 0.0 < self.fraction <= 1.0:
            raise UsageError(
                message("wrong budget", given=self.fraction, expected="0 < fraction <= 1")
            )
        if self.least < 1:
            raise UsageError(message("wrong budget", given=self.least, expected="least >= 1"))
        if self.sinks < 0 or self.recents < 0:
            raise UsageError(
                message(
                    "wrong protection",
                    given=(self.sinks, self.recents),
                    expected="sizes of 0 or more",
                )
            )

    def trace_of(self, row: int) -> Trace:
        """Return the trace that `row` of the batch follows."""
        if isinstance(self.trace, Trace):
            return self.trace
        if self.trace is None or row >= len(self.trace):
            raise UsageError(
                message("no trace for this row", given=row, expected="one trace for each row")
            )
        return self.trace[row]

    def size(self, seen: int) -> int:
        """Tokens for each head under a `fraction`, after `seen` tokens."""
        return max(self.least, round((self.fraction or 0.0) * seen))

    def describe(self) -> str:
        """Words for a record's `budget`."""
        if self.tokens is not None:
            return f"tokens:{self.tokens}"
        if self.fraction is not None:
            least = f":{self.least}" if self.least > 1 else ""
            return f"{'pool' if self.pooled else 'fraction'}:{self.fraction:g}{least}"
        return self.matched or "match"


def at_most_half(tokens: int, view: LayerView) -> Tensor | int:
    """(row, kv_head, 1) int64: `tokens`, but half of a known limit where that is less.

    What is protected whatever its score must leave room for what the score is about: a limit below
    the protected tokens would make every policy the same one.
    """
    if view.limits is None:
        return tokens
    return (view.limits // 2).clamp_max(tokens)[..., None]


def newest_first(scores: Tensor, view: LayerView, recents: int) -> Tensor:
    """Scores (row, kv_head, slot) in which the `recents` newest tokens come before all others.

    The newest comes first, and all of them score 0 or more. For what few queries could look at yet,
    and for comparing policies that protect such tokens with others at equal terms. They take half
    of a known limit at most, the part that H2O's authors give them (arXiv 2306.14048).
    """
    if not recents:
        return scores
    top = scores.masked_fill(~view.filled, 0.0).amax((1, 2), keepdim=True).clamp_min(0.0)
    old = view.age >= at_most_half(recents, view)
    return scores.where(old, top + 1.0 + recents - view.age)


def check_recents(recents: object) -> None:
    """Raise a `UsageError` unless `recents` is 0 or more tokens."""
    if not isinstance(recents, int) or isinstance(recents, bool) or recents < 0:
        raise UsageError(message("wrong recents", given=recents, expected="0 or more tokens"))


Selection = KeepAll | Threshold | Budget

KEEP_ALL = KeepAll()
THRESHOLD = Threshold()
QUARTER = Budget(fraction=0.25)


@runtime_checkable
class Policy(Protocol):
    """Decides which cached tokens stay. Implementations are small frozen dataclasses."""

    @property
    def name(self) -> str:
        """Short name for tables."""
        ...

    @property
    def needs(self) -> Observation:
        """The attention statistics to stream for this policy."""
        ...

    @property
    def selection(self) -> Selection:
        """The rule that turns scores into kept tokens."""
        ...

    def score(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot) float32: higher stays. A row's scores depend on that row alone."""
        ...
