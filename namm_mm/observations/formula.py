"""How a layer turns products of queries and keys into attention weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Formula:
    """The numbers between the products of queries and keys and the weights, of one layer.

    Attributes
    ----------
    scaling
        Factor on the products, usually ``head_dim ** -0.5``.
    window
        Sliding window in positions: a query sees tokens less than `window` before it.
    softcap
        A product ``x`` becomes ``softcap * tanh(x / softcap)`` (Gemma 2, arXiv 2408.00118).
    sinks
        (query_head,): a product that joins the denominator of the softmax and has no value
        (gpt-oss).
    """

    scaling: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def plain(self) -> bool:
        """Whether fused attention computes it: a scaled softmax, in a window or not."""
        return self.softcap is None and self.sinks is None

    def cap(self, products: Tensor) -> Tensor:
        """Cap the scaled products (row, kv_head, group, query, slot) float32, in place."""
        if self.softcap is None:
            return products
        return products.div_(self.softcap).tanh_().mul_(self.softcap)

    def normalisers(self, products: Tensor) -> Tensor:
        """Log-sum-exp over the slots of masked `products`, the sink among them; without last axis.

        `products` is (row, kv_head, group, query, slot) float32.
        """
        total = products.logsumexp(-1)
        if self.sinks is None:
            return total
        return total.logaddexp(self._of_groups(self.sinks, products)[..., 0])

    def softmax(self, products: Tensor) -> Tensor:
        """Weights over the slots of masked `products`, in their place.

        A sink takes its part of the sum of 1.
        """
        import torch

        if self.sinks is None:
            return torch.softmax(products, -1, out=products)
        return products.sub_(self.normalisers(products)[..., None]).exp_()

    @staticmethod
    def _of_groups(numbers: Tensor, products: Tensor) -> Tensor:
        """(1, kv_head, group, 1, 1) float32 from one number for each query head."""
        return numbers.float().to(products.device).view(1, *products.shape[1:3], 1, 1)
