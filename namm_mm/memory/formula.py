"""How a layer turns products of queries and keys into attention weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
    slopes
        (query_head,): ``slope * position of the key`` is added to the product, which softmax takes
        as a bias for near tokens (ALiBi, arXiv 2108.12409).
    """

    scaling: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None
    slopes: Tensor | None = None

    @property
    def plain(self) -> bool:
        """Whether fused attention computes it: a scaled softmax, in a window or not."""
        return self.softcap is None and self.sinks is None and self.slopes is None

    def bend(self, products: Tensor, positions: Tensor) -> Tensor:
        """Cap the scaled products and add the bias of positions.

        Parameters
        ----------
        products
            (row, kv_head, group, query, slot) float32; may be changed in place.
        positions
            (row, kv_head, slot) int64.
        """
        if self.softcap is not None:
            products = products.div_(self.softcap).tanh_().mul_(self.softcap)
        if self.slopes is not None:
            slopes = self._of_groups(self.slopes, products)
            # From the newest token on, so that the numbers stay small.
            distance = (positions - positions.amax(-1, keepdim=True)).float()
            products += slopes * distance[:, :, None, None]
        return products

    def normalisers(self, products: Tensor) -> Tensor:
        """Log-sum-exp over the slots of masked `products`, the sink among them; without last axis.

        `products` is (row, kv_head, group, query, slot) float32.
        """
        total = products.logsumexp(-1)
        if self.sinks is None:
            return total
        return torch.logaddexp(total, self._of_groups(self.sinks, products)[..., 0])

    def softmax(self, products: Tensor) -> Tensor:
        """Weights over the slots of masked `products`; a sink takes its part of the sum of 1."""
        if self.sinks is None:
            return products.softmax(-1)
        return (products - self.normalisers(products)[..., None]).exp_()

    @staticmethod
    def _of_groups(numbers: Tensor, products: Tensor) -> Tensor:
        """(1, kv_head, group, 1, 1) float32 from one number for each query head."""
        return numbers.float().to(products.device).view(1, *products.shape[1:3], 1, 1)
