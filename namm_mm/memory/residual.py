"""What one cohort keeps of its evicted tokens in one layer, and the attention that it joins."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from namm_mm.memory.attention import attend_with_normaliser
from namm_mm.memory.moving import send
from namm_mm.memory.store import Store
from namm_mm.observations.formula import Formula
from namm_mm.residuals import FeatureMaps, ResidualState


class Residual:
    """A state that is empty until the first eviction.

    Parameters
    ----------
    maps
        Feature maps of queries and keys.
    layer
        Index of the layer.
    """

    def __init__(self, maps: FeatureMaps, layer: int) -> None:
        self.maps = maps
        self.layer = layer
        self.state: ResidualState | None = None

    def fold(self, store: Store, index: Tensor, counts: Tensor) -> None:
        """Take in every cached token that is not among the first `counts` of `index`.

        `index` (row, kv_head, k) and `counts` (row, kv_head) are what :func:`select` returned; the
        tokens are still in the store.
        """
        keys, values = store.padded()
        positions = store.positions()
        counts = send(counts, index.device)
        chosen = torch.arange(index.shape[-1], device=index.device) < counts[..., None]
        # Entries past a head's count may name a slot that stays: sums, not the last write, decide.
        kept = torch.zeros_like(positions).scatter_add_(2, index, chosen.long()) > 0
        if self.state is None:
            self.state = ResidualState.empty(self.maps, values)
        features = self.maps.of_keys(self.layer, keys, positions)
        self.state = self.state.folded(features, values, (positions >= 0) & ~kept)

    def attend(self, queries: Tensor, store: Store, formula: Formula) -> Tensor:
        """Attention over what is kept, joined with the state; (row, query_head, query, dim)."""
        if self.state is None:
            raise RuntimeError("the residual is empty")
        out, normaliser = attend_with_normaliser(queries, store, formula)
        return self.state.joined(self.maps.of_queries(self.layer, queries), out, normaliser)

    def select_rows(self, rows: Tensor) -> Residual:
        """Return the residual of these rows, in this order."""
        chosen = copy(self)
        if self.state is not None:
            chosen.state = self.state.select_rows(rows)
        return chosen

    @property
    def nbytes(self) -> int:
        """Bytes of the state, all rows together."""
        return 0 if self.state is None else self.state.nbytes
