"""Attention statistics, streamed: what each kept token has received, without building the matrix.

An observer sees the queries of a block once, recomputes the softmax tile by tile and folds each
tile into per-slot statistics. Memory is O(tile x slots) whatever the length of the prompt.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from namm_mm.memory.attention import weights
from namm_mm.memory.store import Store
from namm_mm.namm.spectrogram import Spectrogram, SpectrogramState
from namm_mm.policies.base import Observation, Policy

# Rows of attention weights that exist at one time, per layer. Larger is faster up to the point
# where a tile leaves the processor's cache; 64 was best of 16 to 256 on CPU.
TILE = 64


class Observer(Protocol):
    """Folds the attention of new queries into the statistics of a store."""

    def observe(self, queries: Tensor, store: Store, scaling: float, window: int | None) -> None:
        """Take in (row, query_head, query, head_dim) of the newest tokens, already in the store."""
        ...

    def statistics(self, store: Store) -> dict[str, Tensor]:
        """What a policy may read, per slot (:attr:`LayerView.statistics`)."""
        ...

    def forget(self) -> None:
        """Drop what waits to be folded: an eviction ends the run of queries it belongs to."""
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

    def observe(self, queries: Tensor, store: Store, scaling: float, window: int | None) -> None:
        """Do nothing."""

    def statistics(self, store: Store) -> dict[str, Tensor]:
        """Return what the store holds."""
        return store.statistics()

    def forget(self) -> None:
        """Do nothing."""

    def select_rows(self, rows: Tensor) -> NoObserver:
        """Return itself: there is nothing to select."""
        return self


class ColumnSums(NoObserver):
    """Attention received so far, summed over all queries (H2O, arXiv 2306.14048, section 4)."""

    def observe(self, queries: Tensor, store: Store, scaling: float, window: int | None) -> None:
        """Add each tile's column sums."""
        held = store.statistics().get("column_sums")
        for tile in weights(queries, store, scaling=scaling, tile=TILE, window=window):
            received = tile.sum(2)
            held = received if held is None else held + received
        if held is not None:
            store.set_statistics({"column_sums": held})


class SpectrogramObserver:
    """Decayed spectrogram of the attention each token receives (NAMM, arXiv 2410.13166).

    Frames need `hop` queries at a time; fewer wait in `pending` (decoding brings one by one).
    Waiting queries, not weights, are kept: nothing is evicted while they wait, so that their
    weights can be recomputed from the keys that are there.
    """

    def __init__(self, spectrogram: Spectrogram, pending: Tensor | None = None) -> None:
        self.spectrogram = spectrogram
        self.pending = pending

    def observe(self, queries: Tensor, store: Store, scaling: float, window: int | None) -> None:
        """Fold all complete hops of queries; let the rest wait."""
        hop = self.spectrogram.hop
        if self.pending is not None:
            queries = torch.cat([self.pending, queries], dim=2)
        waiting = queries.shape[2] % hop
        complete = queries.shape[2] - waiting
        self.pending = queries[:, :, complete:].clone() if waiting else None
        if not complete:
            return
        state = self._state(store)
        # The waiting queries' own tokens are in the store as well: weights() aligns its queries
        # with the newest slots, so they are passed along and their tile is left out.
        for number, tile in enumerate(
            weights(queries, store, scaling=scaling, tile=hop * (TILE // hop), window=window)
        ):
            rows = min(complete - number * hop * (TILE // hop), tile.shape[2])
            if rows > 0:
                state = self.spectrogram.advance(state, tile[:, :, :rows])
        store.set_statistics(state._asdict())

    def _state(self, store: Store) -> SpectrogramState:
        held = store.statistics()
        if held:
            return SpectrogramState(**held)
        return self.spectrogram.initial(store.rows, store.heads, store.width, store.device)

    def statistics(self, store: Store) -> dict[str, Tensor]:
        """Return the decayed spectrum alone: (row, kv_head, slot, bins)."""
        return {"spectrogram": self._state(store).ema}

    def forget(self) -> None:
        """Drop the waiting queries."""
        self.pending = None

    def select_rows(self, rows: Tensor) -> SpectrogramObserver:
        """Return an observer with these rows' waiting queries."""
        waiting = self.pending
        if waiting is not None:
            waiting = waiting.index_select(0, rows.to(waiting.device))
        return SpectrogramObserver(self.spectrogram, waiting)

    @property
    def nbytes(self) -> int:
        """Bytes of the waiting queries."""
        return 0 if self.pending is None else self.pending.untyped_storage().nbytes()


def observer_for(policy: Policy) -> Observer:
    """Build the observer that `policy` needs."""
    if policy.needs is Observation.COLUMN_SUMS:
        return ColumnSums()
    if policy.needs is Observation.SPECTROGRAM:
        return SpectrogramObserver(getattr(policy, "spectrogram", Spectrogram()))
    return NoObserver()
