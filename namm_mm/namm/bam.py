"""Backward attention memory: a token's score may depend on itself and on newer tokens only.

So a token can be found redundant because of what came later, and never the other way round
(An Evolved Universal Transformer Memory, arXiv 2410.13166, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from namm_mm.namm.params import LAYOUTS


@dataclass(frozen=True, eq=False)
class Bam:
    """One head of attention over the tokens of a cache, a gate with residual, and a linear score.

    Attributes
    ----------
    query_key_value_weight, query_key_value_bias
        (25, 96) and (96,).
    output_weight, output_bias
        (32, 50) and (50,): residual and gate.
    score_weight, score_bias
        (25, 1) and (1,).
    """

    query_key_value_weight: Tensor
    query_key_value_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor
    score_weight: Tensor
    score_bias: Tensor

    @classmethod
    def from_vector(cls, vector: Tensor) -> Bam:
        """Read a flat vector of 4172 numbers."""
        return cls(**LAYOUTS["bam"].split(vector))

    @cached_property
    def listens(self) -> bool:
        """Whether tokens tell each other anything; reading it waits for a device, once."""
        return bool(self.output_weight.any())

    def score(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Score every token.

        Parameters
        ----------
        features
            (row, head, slot, 25), oldest first, tokens at the front of the slot axis.
        lengths
            (row, head) int64: filled slots of each sequence.

        Returns
        -------
        Tensor
            (row, head, slot) float32; meaningless in empty slots.
        """
        # Newest first, so "self and newer" is plain causal attention: no T x T mask. Empty slots
        # stay behind all tokens, where nothing sees them.
        order = _newest_first(lengths, features.shape[2])
        scores = self._score_newest_first(_reorder(features, order))
        return _reorder(scores[..., None], order)[..., 0]

    def _score_newest_first(self, z: Tensor) -> Tensor:
        if not self.listens:
            residual, gate = self.output_bias.chunk(2, dim=-1)
            return ((z * (1.0 + gate) + residual) @ self.score_weight + self.score_bias)[..., 0]
        projected = z @ self.query_key_value_weight + self.query_key_value_bias
        query, key, value = projected.chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        residual, gate = (mixed @ self.output_weight + self.output_bias).chunk(2, dim=-1)
        z = z * (1.0 + gate) + residual
        return (z @ self.score_weight + self.score_bias)[..., 0]


def _newest_first(lengths: Tensor, slots: int) -> Tensor | None:
    """Index (row, head, slot) that reverses each sequence in place; None where a flip does."""
    if lengths.device.type == "cpu" and bool((lengths == slots).all()):
        return None
    slot = torch.arange(slots, device=lengths.device)
    mirrored = lengths[..., None] - 1 - slot
    return torch.where(mirrored >= 0, mirrored, slot)


def _reorder(tensor: Tensor, order: Tensor | None) -> Tensor:
    """Reverse (row, head, slot, feature) along its slots. Doing it twice gives the tensor back."""
    if order is None:
        return tensor.flip(2)
    return tensor.gather(2, order[..., None].expand(-1, -1, -1, tensor.shape[-1]))
