"""The base of CMA-ES and of its separable form.

Both draw candidates from one Gaussian, move its mean to the best half, and adapt step size and
covariance from two smoothed paths of the mean (Hansen, The CMA Evolution Strategy: A Tutorial,
arXiv 1604.00772). They differ in how they store, sample and update the covariance.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.evolution.strategy_parameters import StrategyParameters


@dataclass(frozen=True, eq=False)
class Best:
    """The candidate with the highest fitness so far.

    Attributes
    ----------
    member
        (n,) float64.
    fitness, generation
        Fitness compares only between candidates on the same samples.
    """

    member: Tensor
    fitness: float
    generation: int


class Strategy(ABC):
    """Proposes candidates and learns from their fitness; higher is better.

    Call ``ask``, evaluate, call ``tell``, and repeat. A state that is loaded into a strategy with
    the same arguments continues exactly as the saved strategy would have.

    Parameters
    ----------
    mean
        (n,) start of the search.
    sigma
        First step size, in units of the parameters.
    constants
        Weights and learning rates for this n and this population.
    seed
        Seed of the samples.
    """

    def __init__(
        self, mean: Tensor, sigma: float, constants: StrategyParameters, seed: int
    ) -> None:
        if mean.ndim != 1 or mean.numel() < 2 or not bool(mean.isfinite().all()):
            raise UsageError(
                message(
                    "wrong start of an evolution",
                    given=f"shape {tuple(mean.shape)}, {int((~mean.isfinite()).sum())} not finite",
                    expected="a vector of 2 or more finite numbers",
                )
            )
        if not (math.isfinite(sigma) and sigma > 0):
            raise UsageError(message("wrong sigma", given=sigma, expected="a step size above 0"))
        self.constants = constants
        self._mean = mean.detach().to(torch.float64, copy=True)
        self._sigma = torch.tensor(sigma, dtype=torch.float64, device=mean.device)
        self._path_c = torch.zeros_like(self._mean)
        self._path_sigma = torch.zeros_like(self._mean)
        self._generation = 0
        self._best: Best | None = None
        self._asked: Tensor | None = None
        self._random = torch.Generator().manual_seed(seed)

    @property
    def population_size(self) -> int:
        """Candidates per generation."""
        return self.constants.population

    @property
    def generation(self) -> int:
        """Generations told so far."""
        return self._generation

    @property
    def mean(self) -> Tensor:
        """(n,) float64 centre of the search: its result where fitness is noisy."""
        return self._mean.clone()

    @property
    def sigma(self) -> float:
        """Step size."""
        return float(self._sigma)

    @property
    def best(self) -> Best | None:
        """The best single candidate; None before the first generation."""
        return self._best

    @property
    @abstractmethod
    def condition(self) -> float:
        """Ratio of the largest and the smallest eigenvalue of the covariance."""

    def ask(self) -> Tensor:
        """Draw the candidates of the next generation: (population, n) float64."""
        shape = (self.population_size, self._mean.numel())
        # On the CPU, so that a seed gives the same candidates on every device.
        noise = torch.randn(shape, generator=self._random, dtype=torch.float64)
        self._decompose()
        self._asked = self._mean + self._sigma * self._colour(noise.to(self._mean.device))
        return self._asked.clone()

    def tell(self, fitness: Tensor, population: Tensor | None = None) -> None:
        """Learn from the fitness of a generation.

        Parameters
        ----------
        fitness
            (population,) finite, higher is better. Only its order matters.
        population
            (population, n) candidates to learn from instead of those asked for last.

        Raises
        ------
        UsageError
            A fitness is NaN or infinite, a size is wrong, or there are no candidates. The strategy
            does not change then.
        """
        candidates = self._asked if population is None else population
        if candidates is None:
            raise UsageError("tell() without candidates: call ask() first, or give a population.")
        fitness = fitness.detach().to(self._mean)
        candidates = candidates.detach().to(self._mean)
        self._check(fitness, candidates)
        self._decompose()
        order = fitness.argsort(descending=True, stable=True)
        self._remember(candidates[order[0]], float(fitness[order[0]]))
        self._learn((candidates[order] - self._mean) / self._sigma)
        self._asked = None

    def _learn(self, steps: Tensor) -> None:
        """Move the distribution along the steps (population, n), best first, in units of sigma."""
        constants, size = self.constants, self._mean.numel()
        weights = constants.weights.to(self._mean)
        white = self._whiten(steps)
        chosen = weights.clamp_min(0.0)
        step = chosen @ steps
        self._mean = self._mean + self._sigma * step
        self._path_sigma = (1 - constants.c_sigma) * self._path_sigma + math.sqrt(
            constants.c_sigma * (2 - constants.c_sigma) * constants.mu_eff
        ) * (chosen @ white)
        length = self._path_sigma.norm()
        growth = constants.c_sigma / constants.d_sigma * (length / constants.expected_norm - 1)
        self._sigma = self._sigma * growth.exp()
        self._generation += 1
        # A path that is too long means that the step size is far too small. The path of the
        # covariance then stays, or the covariance would grow in one direction.
        unbiased = length / math.sqrt(1 - (1 - constants.c_sigma) ** (2 * self._generation))
        moving = float(unbiased) < (1.4 + 2 / (size + 1)) * constants.expected_norm
        push = math.sqrt(constants.c_c * (2 - constants.c_c) * constants.mu_eff) if moving else 0.0
        self._path_c = (1 - constants.c_c) * self._path_c + push * step
        wait = 0.0 if moving else constants.c_c * (2 - constants.c_c)
        keep = 1 + constants.c_1 * wait - constants.c_1 - constants.c_mu * float(weights.sum())
        # Negative weights are scaled to steps of equal length: the covariance stays positive.
        scale = size / white.square().sum(1).clamp_min(1e-12)
        self._adapt(keep, torch.where(weights >= 0, weights, weights * scale), steps)

    @abstractmethod
    def _decompose(self) -> None:
        """Decompose the covariance for `_colour` and `_whiten`, where that is due."""

    @abstractmethod
    def _colour(self, noise: Tensor) -> Tensor:
        """Return (population, n) noise with this covariance, from white noise."""

    @abstractmethod
    def _whiten(self, steps: Tensor) -> Tensor:
        """Return the steps (population, n) where the covariance is the identity."""

    @abstractmethod
    def _adapt(self, keep: float, weights: Tensor, steps: Tensor) -> None:
        """Decay the covariance by `keep` and add the path's and the weighted steps' products."""

    def _remember(self, member: Tensor, fitness: float) -> None:
        if self._best is None or fitness > self._best.fitness:
            self._best = Best(member.clone(), fitness, self._generation)

    def _check(self, fitness: Tensor, candidates: Tensor) -> None:
        shape = (self.population_size, self._mean.numel())
        if tuple(fitness.shape) != shape[:1] or tuple(candidates.shape) != shape:
            raise UsageError(
                message(
                    "wrong size of a generation",
                    given=f"fitness {tuple(fitness.shape)}, population {tuple(candidates.shape)}",
                    expected=f"fitness {shape[:1]} and population {shape}",
                )
            )
        for name, values in (("fitness", fitness), ("population", candidates)):
            bad = int((~values.isfinite()).sum())
            if bad:
                raise UsageError(
                    message(
                        f"{name} that is not a number",
                        given=f"{bad} NaN or infinite of {values.numel()}",
                        expected="finite numbers",
                        then="Give a failed candidate the lowest fitness of its generation.",
                    )
                )

    def state(self) -> dict[str, Tensor]:
        """Return the whole state, under the names of the official trainer.

        The official trainer has no ``rng``, ``pending`` and ``best_generation``.
        """
        weights = self.constants.weights
        state = {
            "mean": self._mean,
            "sigma": self._sigma,
            "g": torch.tensor(self._generation),
            "evo_path_c": self._path_c,
            "evo_path_sigma": self._path_sigma,
            "weights": weights,
            "weights_truncated": weights.clamp_min(0.0),
            "mu_eff": torch.tensor(self.constants.mu_eff, dtype=torch.float64),
            "rng": self._random.get_state(),
            "pending": torch.tensor(self._asked is not None),
        }
        if self._asked is not None:
            state["x"] = self._asked
        if self._best is not None:
            state["best_member"] = self._best.member
            state["best_fitness"] = torch.tensor(self._best.fitness, dtype=torch.float64)
            state["best_generation"] = torch.tensor(self._best.generation)
        return {name: value.detach().clone() for name, value in state.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state of this class or of the official trainer.

        Raises
        ------
        UsageError
            A part is missing, is not finite, or has another size than this strategy.
        """
        size = self._mean.shape
        like = {"mean": size, "sigma": torch.Size(()), "g": torch.Size(())}
        like |= {"evo_path_c": size, "evo_path_sigma": size}
        check_state(state, like)
        if "weights" in state:
            check_state(state, {"weights": self.constants.weights.shape})
        self._mean = state["mean"].to(self._mean, copy=True)
        self._sigma = state["sigma"].to(self._mean, copy=True)
        self._path_c = state["evo_path_c"].to(self._mean, copy=True)
        self._path_sigma = state["evo_path_sigma"].to(self._mean, copy=True)
        self._generation = int(state["g"])
        self._best = None
        if "best_member" in state and "best_fitness" in state and self._generation:
            when = int(state.get("best_generation", state["g"]))
            member = state["best_member"].to(self._mean, copy=True)
            self._best = Best(member, float(state["best_fitness"]), when)
        pending = bool(state["pending"]) if "pending" in state else False
        self._asked = state["x"].to(self._mean, copy=True) if pending else None
        if "rng" in state:
            self._random.set_state(state["rng"].cpu().clone())


def check_state(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> None:
    """Raise `UsageError` unless the state has these parts, finite and with these shapes."""
    for name, shape in shapes.items():
        if name not in state:
            raise UsageError(
                message(
                    "incomplete state of an evolution",
                    given=sorted(state),
                    expected=f"a state with {name!r}",
                )
            )
        if state[name].shape != shape:
            raise UsageError(
                message(
                    f"wrong {name} in the state of an evolution",
                    given=tuple(state[name].shape),
                    expected=f"shape {tuple(shape)}",
                    then="Load it with the parameter and population sizes it was saved with.",
                )
            )
        if not bool(state[name].isfinite().all()):
            raise UsageError(
                message(
                    f"{name} in the state of an evolution is not a number",
                    given="NaN or infinity",
                    expected="finite numbers",
                )
            )
