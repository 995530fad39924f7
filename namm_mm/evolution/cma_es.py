"""CMA-ES with a full covariance and negative weights: the search that NAMM was published with.

The algorithm of Hansen's tutorial (arXiv 1604.00772), maximising. Decompositions are the cost: at
4,172 parameters one takes half a minute of a CPU, while the covariance moves by a millionth per
generation. So they are done when 10 % of it may have changed, as the tutorial recommends, or every
generation for the published numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.evolution.rates import full_rates
from namm_mm.evolution.strategy import GaussianStrategy, check_state

SMALLEST_EIGENVALUE = 1e-20
OFFICIAL_SHIFT = 1e-6


class CmaEs(GaussianStrategy):
    """Covariance matrix adaptation.

    Parameters
    ----------
    mean
        (n,) where to start.
    sigma
        Step size to start with; published: 0.065.
    population_size
        Candidates per generation; published: 32.
    seed
        Of the samples.
    eigen_interval
        Generations between two decompositions of the covariance; None chooses by its rates.
    first_shift
        Added to every entry of the covariance that the first generation is drawn from, and of
        that alone; the official trainer adds 1e-6.
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
        rates = full_rates(mean.numel(), population_size)
        super().__init__(mean, sigma, rates, seed)
        if eigen_interval is not None and eigen_interval < 1:
            raise UsageError(
                message("wrong eigen_interval", given=eigen_interval, expected="None, or 1 or more")
            )
        self.eigen_interval = eigen_interval or rates.lazy_interval
        size = self._mean.numel()
        self.first_shift = first_shift
        self._covariance = torch.eye(size).to(self._mean)
        # Without axes the covariance is the identity, and there is nothing to decompose.
        self._axes: Tensor | None = None
        self._scales: Tensor | None = None
        self._decomposed = 0 if first_shift == 0.0 else -self.eigen_interval

    @classmethod
    def official(
        cls, mean: Tensor, sigma: float = 0.065, population_size: int = 32, *, seed: int = 0
    ) -> CmaEs:
        """As the official trainer runs it: decomposed every generation, the first one shifted."""
        return cls(
            mean, sigma, population_size, seed=seed, eigen_interval=1, first_shift=OFFICIAL_SHIFT
        )

    @property
    def covariance(self) -> Tensor:
        """(n, n) float64, without the step size."""
        return self._covariance.clone()

    @property
    def condition(self) -> float:
        """Ratio of the covariance's extreme eigenvalues, at its last decomposition."""
        if self._scales is None:
            return 1.0
        return float((self._scales.max() / self._scales.min()) ** 2)

    def _prepare(self) -> None:
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
            [torch.full_like(weights[:1], self.rates.c_1), self.rates.c_mu * weights]
        )
        self._covariance.mul_(keep).addmm_((vectors * factors[:, None]).T, vectors)

    def state(self) -> dict[str, Tensor]:
        """Everything that is needed to go on, under the names of the official trainer.

        Besides those of :meth:`GaussianStrategy.state`, ``decomposed`` (generation of the last
        decomposition) is ours; ``sample_B`` and ``sample_D`` are its axes and scales.
        """
        state = super().state()
        state["C"] = self._covariance.clone()
        state["decomposed"] = torch.tensor(self._decomposed)
        if self._axes is not None and self._scales is not None:
            state["sample_B"], state["sample_D"] = self._axes.clone(), self._scales.clone()
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state, ours or one of the official trainer."""
        check_state(state, {"C": self._covariance.shape})
        super().load(state)
        self._covariance = state["C"].to(self._mean, copy=True)
        self._axes = self._scales = None
        if "decomposed" not in state:  # not ours: decompose anew
            self._decomposed = self._generation - self.eigen_interval
            return
        self._decomposed = int(state["decomposed"])
        if "sample_B" in state and "sample_D" in state:
            self._axes = state["sample_B"].to(self._mean, copy=True)
            self._scales = state["sample_D"].to(self._mean, copy=True)
