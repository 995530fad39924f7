"""Separable CMA-ES: one variance per parameter, learned about n / 3 times as fast.

With a few dozen candidates per generation a full covariance of 4,172 parameters hardly leaves the
identity within a thousand generations. The diagonal adapts, and costs little (Ros and Hansen,
A Simple Modification in CMA-ES Achieving Linear Time and Space Complexity, 2008).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from namm_mm.evolution.strategy import Strategy, check_state
from namm_mm.evolution.strategy_parameters import separable_parameters

SMALLEST_VARIANCE = 1e-20


class SepCma(Strategy):
    """CMA-ES with a diagonal covariance.

    Parameters
    ----------
    mean
        (n,) start of the search.
    sigma
        First step size.
    population_size
        Candidates per generation.
    seed
        Seed of the samples.
    """

    def __init__(
        self, mean: Tensor, sigma: float = 0.065, population_size: int = 32, *, seed: int = 0
    ) -> None:
        super().__init__(mean, sigma, separable_parameters(mean.numel(), population_size), seed)
        self._variance = torch.ones_like(self._mean)

    @property
    def variance(self) -> Tensor:
        """(n,) float64, without the step size."""
        return self._variance.clone()

    @property
    def condition(self) -> float:
        """Ratio of the largest and the smallest variance."""
        return float(self._variance.max() / self._variance.min())

    def _decompose(self) -> None:
        self._variance = self._variance.clamp_min(SMALLEST_VARIANCE)

    def _colour(self, noise: Tensor) -> Tensor:
        return noise * self._variance.sqrt()

    def _whiten(self, steps: Tensor) -> Tensor:
        return steps / self._variance.sqrt()

    def _adapt(self, keep: float, weights: Tensor, steps: Tensor) -> None:
        rank_mu = weights @ steps.square()
        self._variance = (
            keep * self._variance
            + self.constants.c_1 * self._path_c.square()
            + self.constants.c_mu * rank_mu
        )

    def state(self) -> dict[str, Tensor]:
        """Return the whole state; ``C`` is the diagonal."""
        return {**super().state(), "C": self._variance.clone()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state of this strategy."""
        check_state(state, {"C": self._variance.shape})
        super().load(state)
        self._variance = state["C"].to(self._mean, copy=True)
