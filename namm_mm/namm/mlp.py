"""Scorers that look at one token at a time: the ablation of BAM's cross-token attention."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from namm_mm.namm.params import LAYOUTS


@dataclass(frozen=True, eq=False)
class Mlp:
    """A hidden layer with residual, then a linear score: ``z + relu(z W1 + b1)``, 676 numbers."""

    hidden_weight: Tensor
    hidden_bias: Tensor
    score_weight: Tensor
    score_bias: Tensor

    @classmethod
    def from_vector(cls, vector: Tensor) -> Mlp:
        """Read a flat vector of 676 numbers."""
        return cls(**LAYOUTS["mlp"].split(vector))

    def score(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Score every token: (row, head, slot, 25) -> (row, head, slot)."""
        z = features + (features @ self.hidden_weight + self.hidden_bias).relu()
        return (z @ self.score_weight + self.score_bias)[..., 0]


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear score of the features, 26 numbers."""

    score_weight: Tensor
    score_bias: Tensor

    @classmethod
    def from_vector(cls, vector: Tensor) -> Linear:
        """Read a flat vector of 26 numbers."""
        return cls(**LAYOUTS["linear"].split(vector))

    def score(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Score every token: (row, head, slot, 25) -> (row, head, slot)."""
        return (features @ self.score_weight + self.score_bias)[..., 0]
