"""What an observation is: a fold over the attention of new queries, and what a policy reads of it.

A policy names its observation in ``needs``. The memory shows it the queries of every call, a few at
a time, keeps its state and selects rows of it. An observation itself holds nothing that changes: it
is a small frozen object that serves all layers.

There are two kinds. A :class:`WeightsObservation` is shown attention weights and keeps numbers for
each slot, which are evicted with their token. A :class:`QueryObservation` is shown queries and
keeps tensors for each row, which are never evicted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.observations.formula import Formula

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

State = Mapping[str, "Tensor"]
"""The named tensors that an observation keeps; replaced, never changed in place while held."""


@dataclass(frozen=True)
class Cached:
    """The cached tokens of one layer, right before an eviction.

    Attributes
    ----------
    keys
        (row, kv_head, slot, head_dim), in the model's dtype, rotary embedding applied.
    positions
        (row, kv_head, slot) int64: index of the token in its row; -1 in empty slots.
    seen
        Tokens that these rows have processed so far; the newest query has position ``seen - 1``.
    scaling
        Factor on the products of queries and keys.
    window
        Sliding window in positions; None where the layer has none.
    softcap
        A product ``x`` becomes ``softcap * tanh(x / softcap)``; None where the layer has no cap.
    sinks
        (query_head,): a product that joins the denominator of the softmax; None for no sinks.
    """

    keys: Tensor
    positions: Tensor
    seen: int
    scaling: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def formula(self) -> Formula:
        """How the layer turns products of queries and keys into weights."""
        return Formula(self.scaling, self.window, self.softcap, self.sinks)


class Observation(ABC):
    """What a policy asks to be told of the attention."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The key of ``LayerView.statistics`` under which a policy finds the result."""

    @property
    def batch(self) -> int:
        """Queries that are folded at a time; while decoding, so many wait for each other."""
        return 16

    def for_model(self, model: nn.Module) -> Observation:
        """Return the observation fitted to `model`, which a memory is attached to; itself if none.

        Raises
        ------
        UnsupportedError
            The model cannot be observed so.
        """
        return self

    def check_interval(self, interval: int) -> None:  # noqa: B027  (optional)
        """Raise `UsageError` where evictions every `interval` tokens cannot be observed."""

    @property
    def bytes_per_token(self) -> int:
        """Bytes that the state holds for each cached token and head."""
        return 0


class WeightsObservation(Observation):
    """Folds attention weights into numbers for each slot."""

    narrow: ClassVar[bool] = False
    """Whether :meth:`fold` takes weights of fewer slots than the state has: slots that are newer
    than the queries got nothing. Others are shown zeros there."""

    @property
    def folds_rest(self) -> bool:
        """Whether fewer queries than `batch` may be folded before an eviction; else they drop."""
        return True

    def initial(self, rows: int, heads: int, slots: int, device: torch.device | str) -> State:
        """State of slots that nobody attended to: tensors (row, kv_head, slot, ...) of zeros."""
        import torch

        return {self.name: torch.zeros(rows, heads, slots, device=device)}

    def opened(self, state: State) -> State:
        """Return what :meth:`fold` works on; the state itself by default.

        For an observation that holds its state in another form: it is opened before the queries of
        a call are folded, and closed afterwards. Slots that are new hold zeros.
        """
        return state

    def closed(self, state: State) -> State:
        """Return the state to hold, tensors (row, kv_head, slot, ...), from what was folded."""
        return state

    @abstractmethod
    def fold(self, state: State, weights: Tensor) -> State:
        """Return the state after new queries.

        Parameters
        ----------
        state
            What :meth:`opened` gave, or the last fold: tensors (row, kv_head, slot, ...) float32;
            slots that are new hold zeros.
        weights
            (row, kv_head, query, slot) float32: the attention of up to a few hundred queries, a
            multiple of `batch` but for the last ones before an eviction, mean over the query group.
        """

    def read(self, state: State) -> Tensor:
        """What ``LayerView.statistics`` carries: (row, kv_head, slot, ...) float32."""
        return state[self.name]

    @property
    def bytes_per_token(self) -> int:
        """Bytes that the state holds for each cached token and head."""
        held = self.initial(1, 1, 1, "cpu").values()
        return sum(part.numel() * part.element_size() for part in held)


class ColumnStatistic(WeightsObservation):
    """One number for each slot, made of the attention that its token received."""

    narrow: ClassVar[bool] = True

    @abstractmethod
    def merge(self, held: Tensor, weights: Tensor) -> Tensor:
        """Fold weights (row, kv_head, query, slot) into the numbers (row, kv_head, slot)."""

    def fold(self, state: State, weights: Tensor) -> State:
        """Return the merged numbers; those of slots that no query sees stay as they are."""
        import torch

        held, seen = state[self.name], weights.shape[-1]
        merged = self.merge(held[..., :seen], weights)
        newer = held[..., seen:]
        return {self.name: torch.cat([merged, newer], dim=-1) if newer.shape[-1] else merged}


class QueryObservation(Observation):
    """Keeps something of the queries themselves, and is read against the keys at an eviction."""

    @abstractmethod
    def fold(self, state: State, queries: Tensor, first: int) -> State:
        """Return the state after new queries.

        Parameters
        ----------
        state
            Empty at the start, then what the last call returned: tensors whose first axis is the
            row.
        queries
            (row, query_head, query, head_dim), in the model's dtype, rotary embedding applied. A
            view: copy what is kept.
        first
            Position of the first of them in its row.
        """

    @abstractmethod
    def read(self, state: State, cached: Cached) -> Tensor:
        """What ``LayerView.statistics`` carries; its first axis is the row."""

    def after_eviction(self, state: State, left: int | None) -> State:
        """Return what must be held of the state until the next eviction; all of it by default.

        Parameters
        ----------
        left
            Queries that are folded before the next eviction; None where nobody knows: one or more.
        """
        return state
