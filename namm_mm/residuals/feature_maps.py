"""Feature maps: how queries and keys are turned into the features that a residual is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class FeatureMaps(ABC):
    """``phi`` of queries and ``psi`` of keys, with ``phi(q) . psi(k)`` close to ``exp(q . k s)``.

    All features are 0 or more. `s` is the scaling of the attention that they stand for.
    """

    @property
    @abstractmethod
    def features(self) -> int:
        """How many features a query or a key has."""

    @property
    @abstractmethod
    def layers(self) -> int:
        """Attention layers of the model that they were made for."""

    def check_model(self, query_heads: int, kv_heads: int, head_dim: int) -> None:  # noqa: B027
        """Raise `UsageError` where a model's heads are not those that the maps were made for."""

    def on(self, device: torch.device) -> Self:
        """Return the maps with what they hold on `device`; themselves by default."""
        return self

    @abstractmethod
    def of_queries(self, layer: int, queries: Tensor) -> Tensor:
        """``phi``: (row, query_head, query, feature) float32 of (row, query_head, query, dim)."""

    @abstractmethod
    def of_keys(self, layer: int, keys: Tensor, positions: Tensor) -> Tensor:
        """``psi``: (row, kv_head, slot, feature) float32.

        Parameters
        ----------
        keys
            (row, kv_head, slot, dim), rotary embedding applied.
        positions
            (row, kv_head, slot) int64; -1 in empty slots.
        """
