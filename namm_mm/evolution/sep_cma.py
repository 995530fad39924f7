"""Separable CMA-ES: one variance per parameter, learned about n / 3 times as fast.

With a few dozen candidates per generation a full covariance of 4,172 parameters hardly moves from
the identity within a thousand generations. The diagonal does, and costs nothing (Ros and Hansen,
A Simple Modification in CMA-ES Achieving Linear Time and Space Complexity, 2008).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from namm_mm.evolution.rates import separable_rates
from namm_mm.evolution.strategy import GaussianStrategy, check_state

SMALLEST_VARIANCE = 1e-20


class SepCma(GaussianStrategy):
    """CMA-ES with a diagonal covariance.

    Parameters
    ----------
    mean
        (n,) where to start.
    sigma
        Step size to start with.
    population_size
        Candidates per generation.
    seed
        Of the samples.
    """

    def __init__(
        self, mean: Tensor, sigma: float = 0.065, population_size: int = 32, *, seed: int = 0
    ) -> None:
        super().__init__(mean, sigma, separable_rates(mean.numel(), population_size), seed)
        self._variance = torch.ones_like(self._mean)

    @property
    def variance(self) -> Tensor:
        """(n,) float64, without the step size."""
        return self._variance.clone()

    @property
    def condition(self) -> float:
        """Ratio of the extreme variances."""
        return float(self._variance.max() / self._variance.min())

    def _prepare(self) -> None:
        self._variance = self._variance.clamp_min(SMALLEST_VARIANCE)

    def _colour(self, noise: Tensor) -> Tensor:
        return noise * self._variance.sqrt()

    def _whiten(self, steps: Tensor) -> Tensor:
        return steps / self._variance.sqrt()

    def _adapt(self, keep: float, weights: Tensor, steps: Tensor) -> None:
        rank_mu = weights @ steps.square()
        self._variance = (
            keep * self._variance
            + self.rates.c_1 * self._path_c.square()
            + self.rates.c_mu * rank_mu
        )

    def state(self) -> dict[str, Tensor]:
        """Everything that is needed to go on; ``C`` is the diagonal."""
        return {**super().state(), "C": self._variance.clone()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of this strategy."""
        check_state(state, {"C": self._variance.shape})
        super().load(state)
        self._variance = state["C"].to(self._mean, copy=True)
