"""CMA-ES with a full covariance and negative weights: the search that NAMM was published with.

The algorithm is that of Hansen's tutorial (arXiv 1604.00772); it maximises. The decomposition of
the covariance is expensive: at 4,172 parameters it takes half a minute of a CPU, while the
covariance changes by a millionth per generation. It is therefore repeated only when up to 10 % of
the covariance may have changed, as the tutorial recommends, or in every generation, as published.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.evolution.strategy import Strategy, check_state
from namm_mm.evolution.strategy_parameters import full_parameters

SMALLEST_EIGENVALUE = 1e-20
OFFICIAL_SHIFT = 1e-6


class CmaEs(Strategy):
    """Covariance matrix adaptation.

    Parameters
    ----------
    mean
        (n,) start of the search.
    sigma
        First step size; published: 0.065.
    population_size
        Candidates per generation; published: 32.
    seed
        Seed of the samples.
    eigen_interval
        Generations between two decompositions; None takes the interval of the tutorial.
    first_shift
        Is added to every entry of the covariance for the first generation only; the official
        trainer adds 1e-6.
    """

    def __init__(
        self,
        mean: Tensor,
        sigma: float = 0.065,
        population_size: int = 32,
        *,
        seed: int = 0,
        eigen_interval: int | None = None,
        first_shift: float = 0.0,
    ) -> None:
        constants = full_parameters(mean.numel(), population_size)
        super().__init__(mean, sigma, constants, seed)
        if eigen_interval is not None and eigen_interval < 1:
            raise UsageError(
                message("wrong eigen_interval", given=eigen_interval, expected="None, or 1 or more")
            )
        self.eigen_interval = eigen_interval or constants.lazy_interval
        size = self._mean.numel()
        self.first_shift = first_shift
        self._covariance = torch.eye(size).to(self._mean)
        # Without axes the covariance is the identity: nothing is to be decomposed.
        self._axes: Tensor | None = None
        self._scales: Tensor | None = None
        self._decomposed = 0 if first_shift == 0.0 else -self.eigen_interval

    @classmethod
    def official(
        cls, mean: Tensor, sigma: float = 0.065, population_size: int = 32, *, seed: int = 0
    ) -> CmaEs:
        """Return the search of the official trainer: a decomposition in every generation."""
        return cls(
            mean, sigma, population_size, seed=seed, eigen_interval=1, first_shift=OFFICIAL_SHIFT
        )

    @property
    def covariance(self) -> Tensor:
        """(n, n) float64, without the step size."""
        return self._covariance.clone()

    @property
    def condition(self) -> float:
        """Ratio of the extreme eigenvalues, at the last decomposition; 1 before the first one."""
        if self._scales is None:
            return 1.0
        return float((self._scales.max() / self._scales.min()) ** 2)

    def _decompose(self) -> None:
        if self._generation - self._decomposed < self.eigen_interval:
            return
        covariance = (self._covariance + self._covariance.T) / 2
        if self._generation == 0:
            covariance += self.first_shift
        values, axes = torch.linalg.eigh(covariance)
        if bool((values < SMALLEST_EIGENVALUE).any()):
            values = values.clamp_min(SMALLEST_EIGENVALUE)
            self._covariance = (axes * values) @ axes.T
        self._axes, self._scales = axes, values.sqrt()
        self._decomposed = self._generation

    def _colour(self, noise: Tensor) -> Tensor:
        if self._axes is None or self._scales is None:
            return noise
        return (noise * self._scales) @ self._axes.T

    def _whiten(self, steps: Tensor) -> Tensor:
        if self._axes is None or self._scales is None:
            return steps
        return (steps @ self._axes / self._scales) @ self._axes.T

    def _adapt(self, keep: float, weights: Tensor, steps: Tensor) -> None:
        vectors = torch.cat([self._path_c[None], steps])
        factors = torch.cat(
            [torch.full_like(weights[:1], self.constants.c_1), self.constants.c_mu * weights]
        )
        self._covariance.mul_(keep).addmm_((vectors * factors[:, None]).T, vectors)

    def state(self) -> dict[str, Tensor]:
        """Return the whole state, under the names of the official trainer.

        ``sample_B`` and ``sample_D`` are the axes and scales of the last decomposition. The
        official trainer has no ``decomposed``, the generation of that decomposition.
        """
        state = super().state()
        state["C"] = self._covariance.clone()
        state["decomposed"] = torch.tensor(self._decomposed)
        if self._axes is not None and self._scales is not None:
            state["sample_B"], state["sample_D"] = self._axes.clone(), self._scales.clone()
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state of this class or of the official trainer."""
        check_state(state, {"C": self._covariance.shape})
        super().load(state)
        self._covariance = state["C"].to(self._mean, copy=True)
        self._axes = self._scales = None
        if "decomposed" not in state:  # a state of the official trainer: decompose again
            self._decomposed = self._generation - self.eigen_interval
            return
        self._decomposed = int(state["decomposed"])
        if "sample_B" in state and "sample_D" in state:
            self._axes = state["sample_B"].to(self._mean, copy=True)
            self._scales = state["sample_D"].to(self._mean, copy=True)
