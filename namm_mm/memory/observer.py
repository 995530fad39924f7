"""Observers: show an observation the queries of every call, and keep its state.

An observer of weights sees the queries of a block once, recomputes the softmax tile by tile and
folds each tile into the state of the slots. Memory is O(tile x slots) whatever the length of the
prompt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import copy
from typing import Self

import torch
import torch.nn.functional as functional
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.memory.attention import attend, of_parts, weights
from namm_mm.memory.folding import fold_by_kernel, kernels_for
from namm_mm.memory.store import Store
from namm_mm.observations.base import (
    Cached,
    Observation,
    QueryObservation,
    State,
    WeightsObservation,
)
from namm_mm.observations.formula import Formula

# Rows of attention weights that exist at one time, per layer. On a CPU larger tiles are faster,
# with nothing left to gain above 128: `research/benchmarks/prefill_decode.py --tile` compares.
TILE = 128


class Observer(ABC):
    """What one cohort of rows observes in one layer.

    Queries are folded `batch` at a time; decoding brings one by one, so fewer wait. Waiting queries
    are kept, not their weights: nothing is evicted while they wait, so that the weights can be
    computed from the keys that are there, for many queries at the cost of one.
    """

    batch: int

    def __init__(self) -> None:
        self.waiting: Tensor | None = None

    def attends(self, queries: Tensor, formula: Formula) -> bool:
        """Whether `observe` may as well compute the attention output of these queries."""
        return False

    def observe(
        self,
        queries: Tensor,
        store: Store,
        formula: Formula,
        out: Tensor | None = None,
    ) -> None:
        """Fold all complete batches of queries; let the rest wait.

        `queries`, (row, query_head, query, head_dim), are of the newest tokens, already in the
        store. `out`, of the same shape, is filled with their attention output, if `attends` said
        so.
        """
        if self.waiting is not None:
            queries = torch.cat([self.waiting, queries], dim=2)
        complete = queries.shape[2] - queries.shape[2] % self.batch
        waiting = queries[:, :, complete:]
        self.waiting = waiting.clone() if waiting.shape[2] else None
        if complete:
            self.fold(queries, complete, store, formula, out)

    @abstractmethod
    def fold(
        self,
        queries: Tensor,
        complete: int,
        store: Store,
        formula: Formula,
        out: Tensor | None,
    ) -> None:
        """Fold the first `complete` of the newest queries."""

    @abstractmethod
    def fold_waiting(self, store: Store, formula: Formula) -> None:
        """Fold the waiting queries, however few, or drop them: an eviction follows."""

    @abstractmethod
    def statistics(self, store: Store, cached: Cached) -> dict[str, Tensor]:
        """What a policy reads (:attr:`LayerView.statistics`)."""

    def after_eviction(self, left: int | None) -> None:  # noqa: B027  (optional)
        """Let go of what is not needed at the next eviction, `left` tokens from now if known."""

    def select_rows(self, rows: Tensor) -> Self:
        """Return an observer of these rows, in this order (rows may repeat)."""
        chosen = copy(self)
        if self.waiting is not None:
            chosen.waiting = self.waiting.index_select(0, rows.to(self.waiting.device))
        return chosen

    @property
    def nbytes(self) -> int:
        """Bytes held outside the store: the waiting queries."""
        return 0 if self.waiting is None else self.waiting.untyped_storage().nbytes()


class NoObserver(Observer):
    """For policies that look at no attention."""

    def observe(
        self,
        queries: Tensor,
        store: Store,
        formula: Formula,
        out: Tensor | None = None,
    ) -> None:
        """Do nothing."""

    def fold(
        self,
        queries: Tensor,
        complete: int,
        store: Store,
        formula: Formula,
        out: Tensor | None,
    ) -> None:
        """Do nothing."""

    def fold_waiting(self, store: Store, formula: Formula) -> None:
        """Do nothing."""

    def statistics(self, store: Store, cached: Cached) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def select_rows(self, rows: Tensor) -> Self:
        """Return itself: there is nothing to select."""
        return self


class WeightsObserver(Observer):
    """Computes attention weights for a :class:`WeightsObservation`; its state lies in the store."""

    def __init__(self, observation: WeightsObservation) -> None:
        super().__init__()
        self.observation = observation
        self.batch = observation.batch

    def attends(self, queries: Tensor, formula: Formula) -> bool:
        """On a CPU or by kernels, where nothing waits: fused attention gains nothing there."""
        served = kernels_for(self.observation, queries, formula) or queries.device.type == "cpu"
        return bool(served) and self.waiting is None and queries.shape[2] >= self.batch

    def fold(
        self,
        queries: Tensor,
        complete: int,
        store: Store,
        formula: Formula,
        out: Tensor | None,
    ) -> None:
        """Fold by kernels, or tile by tile, each head over its own slots where that is faster."""
        if kernels := kernels_for(self.observation, queries, formula):
            state = self._state(store)
            by = (queries, complete, store, formula, out)
            fold_by_kernel(kernels, self.observation, state, *by)
            return
        parts = store.split_heads(complete) if store.device.type == "cpu" else (store,)
        outs = [None] * len(parts) if out is None else of_parts(out, store, parts)
        for own, part, filled in zip(of_parts(queries, store, parts), parts, outs, strict=True):
            if part.observed:
                self._fold_tiles(self._tiles(own, part, formula, complete, filled), part)
            elif filled is not None:
                filled.copy_(attend(own, part, formula))
        store.join_statistics(parts)

    def _tiles(
        self,
        queries: Tensor,
        store: Store,
        formula: Formula,
        complete: int,
        out: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Weights of the first `complete` queries.

        The tokens of the waiting ones are in the store as well, and weights() aligns its queries
        with the newest slots; so they are passed along, and their weights left out.
        """
        tile = self.batch * max(1, TILE // self.batch)
        for part in weights(queries, store, formula, tile=tile, out=out):
            if complete > 0:
                yield part[:, :, :complete]
            complete -= part.shape[2]
            if complete <= 0 and out is None:
                return

    def _fold_tiles(self, tiles: Iterator[Tensor], store: Store) -> None:
        state = self.observation.opened(self._state(store))
        for tile in tiles:
            newer = store.width - tile.shape[-1]
            if newer and not self.observation.narrow:
                tile = functional.pad(tile, (0, newer))
            state = self.observation.fold(state, tile)
        store.set_statistics(self.observation.closed(state))

    def fold_waiting(self, store: Store, formula: Formula) -> None:
        """Fold the rest, or drop it where the observation takes whole batches only."""
        if self.waiting is None:
            return
        queries, self.waiting = self.waiting, None
        if self.observation.folds_rest:
            self.fold(queries, queries.shape[2], store, formula, None)

    def statistics(self, store: Store, cached: Cached) -> dict[str, Tensor]:
        """What the observation reads of its state."""
        return {self.observation.name: self.observation.read(self._state(store))}

    def _state(self, store: Store) -> State:
        held = store.statistics()
        if held:
            return held
        return self.observation.initial(store.rows, store.heads, store.width, store.device)


class QueryObserver(Observer):
    """Shows queries to a :class:`QueryObservation` and keeps its state, a tensor for each row."""

    def __init__(self, observation: QueryObservation) -> None:
        super().__init__()
        self.observation = observation
        self.batch = observation.batch
        self.state: State = {}
        self.folded = 0  # queries of each row so far: the position of the next one

    def fold(
        self,
        queries: Tensor,
        complete: int,
        store: Store,
        formula: Formula,
        out: Tensor | None,
    ) -> None:
        """Show the first `complete` queries."""
        self.state = self.observation.fold(self.state, queries[:, :, :complete], self.folded)
        self.folded += complete

    def fold_waiting(self, store: Store, formula: Formula) -> None:
        """Show the waiting ones."""
        if self.waiting is not None:
            queries, self.waiting = self.waiting, None
            self.fold(queries, queries.shape[2], store, formula, None)

    def statistics(self, store: Store, cached: Cached) -> dict[str, Tensor]:
        """What the observation reads of its state and the cached keys."""
        return {self.observation.name: self.observation.read(self.state, cached)}

    def after_eviction(self, left: int | None) -> None:
        """Hold what the observation says."""
        self.state = self.observation.after_eviction(self.state, left)

    def select_rows(self, rows: Tensor) -> Self:
        """Return an observer with the state and the waiting queries of these rows."""
        chosen = super().select_rows(rows)
        chosen.state = {
            name: value.index_select(0, rows.to(value.device)) for name, value in self.state.items()
        }
        return chosen

    @property
    def nbytes(self) -> int:
        """Bytes of the waiting queries and of the state."""
        state = sum(value.untyped_storage().nbytes() for value in self.state.values())
        return super().nbytes + state


def observer_for(observation: Observation | None) -> Observer:
    """Return a new observer that serves `observation`; None is for policies that need none.

    Raises
    ------
    UsageError
        It is an observation of neither kind.
    """
    if observation is None:
        return NoObserver()
    if isinstance(observation, WeightsObservation):
        return WeightsObserver(observation)
    if isinstance(observation, QueryObservation):
        return QueryObserver(observation)
    raise UsageError(
        message(
            "unknown kind of observation",
            given=type(observation).__name__,
            expected="a subclass of WeightsObservation or of QueryObservation",
        )
    )
