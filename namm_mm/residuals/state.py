"""The state of evicted tokens, and how it joins the attention over kept ones (LESS).

*Get More with LESS*, arXiv 2402.09398, section 3. Each kv head holds a matrix ``H`` and a vector
``z``. A token that is evicted adds ``psi(k) v`` and ``psi(k)``. A query joins what is kept and what
is gone by their normalisers, as two blocks of one softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from namm_mm.residuals.feature_maps import FeatureMaps

TINY = 1e-30
"""Stands for a normaliser of zero, whose logarithm would be minus infinity."""


@dataclass(frozen=True)
class ResidualState:
    """Sums over the evicted tokens of some rows in one layer; replaced by every fold.

    Attributes
    ----------
    values
        ``H``: (row, kv_head, feature, value_dim) float32.
    weights
        ``z``: (row, kv_head, feature) float32.
    """

    values: Tensor
    weights: Tensor

    @classmethod
    def empty(cls, maps: FeatureMaps, values: Tensor) -> ResidualState:
        """State of nothing, for `values` (row, kv_head, slot, value_dim)."""
        rows, heads, _, dim = values.shape
        shape = (rows, heads, maps.features)
        return cls(
            torch.zeros(*shape, dim, device=values.device), torch.zeros(shape, device=values.device)
        )

    def folded(self, features: Tensor, values: Tensor, dropped: Tensor) -> ResidualState:
        """Return the state after an eviction.

        Parameters
        ----------
        features
            ``psi`` (row, kv_head, slot, feature) of all cached tokens.
        values
            (row, kv_head, slot, value_dim).
        dropped
            (row, kv_head, slot) bool: the tokens that are evicted now.
        """
        gone = features.masked_fill(~dropped[..., None], 0.0)
        held = values.float().masked_fill(~dropped[..., None], 0.0)
        return ResidualState(
            self.values + gone.transpose(-1, -2) @ held, self.weights + gone.sum(2)
        )

    def joined(self, features: Tensor, out: Tensor, normaliser: Tensor) -> Tensor:
        """Join the attention over kept tokens with what is left of the others.

        Parameters
        ----------
        features
            ``phi`` (row, query_head, query, feature).
        out
            (row, query_head, query, value_dim): attention over the kept tokens.
        normaliser
            (row, query_head, query) float32: log-sum-exp of their products.

        Returns
        -------
        Tensor
            As `out`, in its dtype.
        """
        rows, heads = self.weights.shape[:2]
        grouped = features.view(rows, heads, -1, *features.shape[2:])
        gone = (grouped @ self.weights[:, :, None, :, None]).flatten(1, 2)[..., 0]
        mixed = (grouped @ self.values[:, :, None]).flatten(1, 2)
        total = torch.logaddexp(normaliser, gone.clamp_min(TINY).log())
        kept = (normaliser - total).exp()[..., None] * out.float()
        return (kept + (-total).exp()[..., None] * mixed).to(out.dtype)

    def select_rows(self, rows: Tensor) -> ResidualState:
        """Return the state of these rows, in this order (rows may repeat)."""
        rows = rows.to(self.weights.device)
        return ResidualState(self.values[rows], self.weights[rows])

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return int(self.values.nbytes + self.weights.nbytes)
