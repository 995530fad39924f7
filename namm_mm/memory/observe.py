"""Attention statistics, streamed: what each kept token has received, without building the matrix.

An observer sees the queries of a block once, recomputes the softmax tile by tile and folds each
tile into per-slot statistics. Memory is O(tile x slots) whatever the length of the prompt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import copy
from typing import Protocol

import torch
from torch import Tensor

from namm_mm.memory.attention import of_parts, weights
from namm_mm.memory.store import Store
from namm_mm.namm.spectrogram import Spectrogram, SpectrogramState
from namm_mm.policies.base import Observation, Policy

# Rows of attention weights that exist at one time, per layer. On a CPU larger tiles are faster,
# with nothing left to gain above 128:
# `research/benchmarks/prefill_decode.py --tile` compares sizes.
TILE = 128


class Observer(Protocol):
    """Folds the attention of new queries into the statistics of a store."""

    def attends(self, queries: Tensor) -> bool:
        """Whether `observe` may as well make the attention output of these queries."""
        ...

    def observe(
        self,
        queries: Tensor,
        store: Store,
        scaling: float,
        window: int | None,
        out: Tensor | None = None,
    ) -> None:
        """Take in (row, query_head, query, head_dim) of the newest tokens, already in the store.

        `out`, of the same shape, is filled with their attention output, if `attends` said yes.
        """
        ...

    def settle(self, store: Store, scaling: float, window: int | None) -> None:
        """Fold what still waits, or drop it: an eviction follows."""
        ...

    def statistics(self, store: Store) -> dict[str, Tensor]:
        """What a policy may read, per slot (:attr:`LayerView.statistics`)."""
        ...

    def select_rows(self, rows: Tensor) -> Observer:
        """Return an observer for these rows."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes held outside the store."""
        ...


class NoObserver:
    """For policies that look at no attention."""

    nbytes = 0

    def attends(self, queries: Tensor) -> bool:
        """No: it never sees a weight."""
        return False

    def observe(
        self,
        queries: Tensor,
        store: Store,
        scaling: float,
        window: int | None,
        out: Tensor | None = None,
    ) -> None:
        """Do nothing."""

    def settle(self, store: Store, scaling: float, window: int | None) -> None:
        """Do nothing."""

    def statistics(self, store: Store) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def select_rows(self, rows: Tensor) -> NoObserver:
        """Return itself: there is nothing to select."""
        return self


class WaitingObserver(ABC):
    """Folds queries `batch` at a time; decoding brings one by one, so fewer wait.

    Waiting queries are kept, not their weights: nothing is evicted while they wait, so that the
    weights can be computed from the keys that are there, for many queries at the cost of one.
    """

    batch: int

    def __init__(self) -> None:
        self.pending: Tensor | None = None

    def attends(self, queries: Tensor) -> bool:
        """On a CPU, where nothing waits: fused attention gains nothing there."""
        count = queries.shape[2]
        return queries.device.type == "cpu" and self.pending is None and count >= self.batch

    def observe(
        self,
        queries: Tensor,
        store: Store,
        scaling: float,
        window: int | None,
        out: Tensor | None = None,
    ) -> None:
        """Fold all complete batches of queries; let the rest wait."""
        if self.pending is not None:
            queries = torch.cat([self.pending, queries], dim=2)
        complete = queries.shape[2] - queries.shape[2] % self.batch
        waiting = queries[:, :, complete:]
        self.pending = waiting.clone() if waiting.shape[2] else None
        if not complete:
            return
        parts = store.apart(complete) if store.device.type == "cpu" else (store,)
        outs = [None] * len(parts) if out is None else of_parts(out, store, parts)
        for own, part, filled in zip(of_parts(queries, store, parts), parts, outs, strict=True):
            self.fold(self._tiles(own, part, scaling, window, complete, filled), part)
        store.rejoin(parts)

    def _tiles(
        self,
        queries: Tensor,
        store: Store,
        scaling: float,
        window: int | None,
        complete: int,
        out: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Weights of the first `complete` queries.

        The tokens of the waiting ones are in the store as well, and weights() aligns its queries
        with the newest slots; so they are passed along, and their weights left out.
        """
        tile = self.batch * max(1, TILE // self.batch)
        for part in weights(queries, store, scaling=scaling, tile=tile, window=window, out=out):
            if complete > 0:
                yield part[:, :, :complete]
            complete -= part.shape[2]
            if complete <= 0 and out is None:
                return

    @abstractmethod
    def fold(self, tiles: Iterator[Tensor], store: Store) -> None:
        """Fold attention weights (row, kv_head, query, slot) into the statistics of the store."""

    @property
    def nbytes(self) -> int:
        """Bytes of the waiting queries."""
        return 0 if self.pending is None else self.pending.untyped_storage().nbytes()

    def take_rows(self, chosen: WaitingObserver, rows: Tensor) -> None:
        """Give `chosen` the waiting queries of these rows."""
        if self.pending is not None:
            chosen.pending = self.pending.index_select(0, rows.to(self.pending.device))


class ColumnStatistic(WaitingObserver):
    """One number for each slot, made from the attention that it received."""

    batch = 16
    name: str

    @abstractmethod
    def merge(self, held: Tensor, tile: Tensor) -> Tensor:
        """Fold weights (row, kv_head, query, slot) into the statistic (row, kv_head, slot)."""

    def fold(self, tiles: Iterator[Tensor], store: Store) -> None:
        """Merge tile by tile."""
        held = self.statistics(store)[self.name]
        for tile in tiles:
            held = self.merge(held, tile)
        store.set_statistics({self.name: held})

    def settle(self, store: Store, scaling: float, window: int | None) -> None:
        """Fold the rest, however few."""
        if self.pending is not None:
            queries, self.pending = self.pending, None
            count = queries.shape[2]
            self.fold(self._tiles(queries, store, scaling, window, count), store)

    def statistics(self, store: Store) -> dict[str, Tensor]:
        """Return the statistic so far: (row, kv_head, slot)."""
        held = store.statistics()
        return held or {
            self.name: torch.zeros(store.rows, store.heads, store.width, device=store.device)
        }

    def select_rows(self, rows: Tensor) -> ColumnStatistic:
        """Return an observer with these rows' waiting queries."""
        chosen = copy(self)
        chosen.pending = None
        self.take_rows(chosen, rows)
        return chosen


class ColumnSums(ColumnStatistic):
    """Attention received so far, summed over all queries (H2O, arXiv 2306.14048, section 4)."""

    name = Observation.COLUMN_SUMS.value

    def merge(self, held: Tensor, tile: Tensor) -> Tensor:
        """Add the tile's column sums."""
        return held + tile.sum(2)


class ColumnMaxima(ColumnStatistic):
    """The most attention that one query ever gave."""

    name = Observation.COLUMN_MAXIMA.value

    def merge(self, held: Tensor, tile: Tensor) -> Tensor:
        """Take the larger one."""
        return torch.maximum(held, tile.amax(2))


class DecayedSums(ColumnStatistic):
    """Attention received, of which each further query leaves the part `decay`."""

    name = Observation.DECAYED_SUMS.value

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def merge(self, held: Tensor, tile: Tensor) -> Tensor:
        """Let the sum fade and add the tile's, the newest query in full."""
        queries = tile.shape[2]
        left = self.decay ** torch.arange(queries - 1, -1, -1, device=tile.device)
        return held * self.decay**queries + torch.einsum("rhqs,q->rhs", tile, left)


class SpectrogramObserver(WaitingObserver):
    """Decayed spectrogram of the attention each token receives (NAMM, arXiv 2410.13166)."""

    def __init__(self, spectrogram: Spectrogram) -> None:
        super().__init__()
        self.spectrogram = spectrogram
        self.batch = spectrogram.hop

    def fold(self, tiles: Iterator[Tensor], store: Store) -> None:
        """Advance the spectrogram by whole hops."""
        state = self._state(store)
        for tile in tiles:
            state = self.spectrogram.advance(state, tile)
        store.set_statistics(state._asdict())

    def settle(self, store: Store, scaling: float, window: int | None) -> None:
        """Drop what waits: less than a hop is no frame. Intervals of whole hops leave nothing."""
        self.pending = None

    def statistics(self, store: Store) -> dict[str, Tensor]:
        """Return the decayed spectrum alone: (row, kv_head, slot, bins)."""
        return {"spectrogram": self._state(store).ema}

    def _state(self, store: Store) -> SpectrogramState:
        held = store.statistics()
        if held:
            return SpectrogramState(**held)
        return self.spectrogram.initial(store.rows, store.heads, store.width, store.device)

    def select_rows(self, rows: Tensor) -> SpectrogramObserver:
        """Return an observer with these rows' waiting queries."""
        chosen = SpectrogramObserver(self.spectrogram)
        self.take_rows(chosen, rows)
        return chosen


def observer_for(policy: Policy) -> Observer:
    """Build the observer that `policy` needs."""
    if policy.needs is Observation.COLUMN_SUMS:
        return ColumnSums()
    if policy.needs is Observation.COLUMN_MAXIMA:
        return ColumnMaxima()
    if policy.needs is Observation.DECAYED_SUMS:
        return DecayedSums(policy.decay)  # type: ignore[attr-defined]
    if policy.needs is Observation.SPECTROGRAM:
        return SpectrogramObserver(getattr(policy, "spectrogram", Spectrogram()))
    return NoObserver()
