"""The strategy parameters of CMA-ES: recombination weights and learning rates.

Both follow from the number of parameters that are searched and the size of the population (Hansen,
The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772, table 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message

ALPHA_COV = 2.0


@dataclass(frozen=True, eq=False)
class StrategyParameters:
    """Constants of one search.

    Attributes
    ----------
    weights
        (population,) float64, best candidate first; the positive weights sum to 1.
    mu_eff
        Variance-effective number of selected candidates (equation 8).
    c_1, c_mu
        Learning rates of the rank-one and the rank-mu update of the covariance.
    c_sigma, d_sigma
        Learning rate and damping of the step size.
    c_c
        Learning rate of the evolution path of the covariance.
    expected_norm
        Expected length of a standard normal vector.
    """

    weights: Tensor
    mu_eff: float
    c_1: float
    c_mu: float
    c_sigma: float
    d_sigma: float
    c_c: float
    expected_norm: float

    @property
    def population(self) -> int:
        """Candidates per generation."""
        return self.weights.numel()

    @property
    def lazy_interval(self) -> int:
        """Generations between two decompositions of the covariance: 1 / (10 n (c_1 + c_mu)).

        See appendix B.2 of the tutorial.
        """
        size = round(self.expected_norm**2)
        return max(1, int(1 / (10 * size * (self.c_1 + self.c_mu))))


def full_parameters(size: int, population: int) -> StrategyParameters:
    """Return the parameters of a full covariance with negative weights (equations 49 to 58).

    The better half of the population has positive weights. The published NAMM uses these
    parameters.
    """
    _check(population)
    mu = population // 2
    raw = [math.log((population + 1) / 2) - math.log(rank) for rank in range(1, population + 1)]
    mu_eff = sum(raw[:mu]) ** 2 / sum(w * w for w in raw[:mu])
    mu_eff_negative = sum(raw[mu:]) ** 2 / sum(w * w for w in raw[mu:])
    c_1 = ALPHA_COV / ((size + 1.3) ** 2 + mu_eff)
    c_mu = min(
        1 - c_1 - 1e-8,
        ALPHA_COV * (mu_eff - 2 + 1 / mu_eff) / ((size + 2) ** 2 + ALPHA_COV * mu_eff / 2),
    )
    negative = min(
        1 + c_1 / c_mu,
        1 + 2 * mu_eff_negative / (mu_eff + 2),
        (1 - c_1 - c_mu) / (size * c_mu),
    )
    gains = sum(w for w in raw if w > 0)
    losses = -sum(w for w in raw if w < 0)
    weights = [w / gains if w >= 0 else negative * w / losses for w in raw]
    c_sigma = (mu_eff + 2) / (size + mu_eff + 5)
    return StrategyParameters(
        weights=torch.tensor(weights, dtype=torch.float64),
        mu_eff=mu_eff,
        c_1=c_1,
        c_mu=c_mu,
        c_sigma=c_sigma,
        d_sigma=1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (size + 1)) - 1) + c_sigma,
        c_c=(4 + mu_eff / size) / (size + 4 + 2 * mu_eff / size),
        expected_norm=_expected_norm(size),
    )


def separable_parameters(size: int, population: int) -> StrategyParameters:
    """Return the parameters of a diagonal covariance, which learns (n + 2) / 3 times as fast.

    Ros and Hansen, A Simple Modification in CMA-ES Achieving Linear Time and Space Complexity,
    PPSN 2008.
    """
    _check(population)
    mu = population // 2
    raw = [math.log(mu + 1) - math.log(rank) for rank in range(1, mu + 1)]
    weights = [w / sum(raw) for w in raw]
    mu_eff = 1 / sum(w * w for w in weights)
    c_mu = 2 / mu_eff / (size + math.sqrt(2)) ** 2
    c_mu += (1 - 1 / mu_eff) * min(1.0, (2 * mu_eff - 1) / ((size + 2) ** 2 + mu_eff))
    c_sigma = (mu_eff + 2) / (size + mu_eff + 3)
    return StrategyParameters(
        weights=torch.tensor([*weights, *[0.0] * (population - mu)], dtype=torch.float64),
        mu_eff=mu_eff,
        c_1=ALPHA_COV / ((size + 1.3) ** 2 + mu_eff),
        c_mu=(size + 2) / 3 * c_mu,
        c_sigma=c_sigma,
        d_sigma=1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (size + 1)) - 1) + c_sigma,
        c_c=4 / (size + 4),
        expected_norm=_expected_norm(size),
    )


def _expected_norm(size: int) -> float:
    return math.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))


def _check(population: int) -> None:
    if population < 4:
        raise UsageError(
            message("wrong population", given=population, expected="4 candidates or more")
        )
