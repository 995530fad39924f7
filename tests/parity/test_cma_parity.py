"""CMA-ES equals the official trainer's and, step for step, the ``cmaes`` package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cmaes
import numpy as np
import pytest
import torch
from torch import Tensor

from namm_mm.evolution import CmaEs, SepCma
from namm_mm.evolution.strategy_parameters import full_parameters, separable_parameters

pytestmark = pytest.mark.numeric

GOLDEN = Path(__file__).parent / "golden" / "golden_cma.npz"
CONSTANTS = {"c_1": "c_1", "c_mu": "c_mu", "c_sigma": "c_sigma", "d_sigma": "d_sigma", "c_c": "c_c"}
CONSTANTS |= {"mu_eff": "mu_eff", "expected_norm": "expected_normal_mag"}


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as file:
        arrays = {name.removeprefix("cma."): array for name, array in file.items()}
    return {name: torch.from_numpy(array).to(torch.float64) for name, array in arrays.items()}


def assert_near(ours: Tensor, recorded: Tensor, tolerance: float = 1e-6) -> None:
    """Within `tolerance` of the largest entry, or of 1: the recording is float32."""
    scale = max(1.0, float(recorded.abs().max()))
    torch.testing.assert_close(ours, recorded, atol=tolerance * scale, rtol=0)


def after(golden: dict[str, Tensor], generation: int, name: str) -> Tensor:
    if generation < 0:
        return torch.zeros(12, dtype=torch.float64)
    return golden[f"g{generation}.{name}_after"]


def test_constants_are_the_official_ones(golden: dict[str, Tensor]) -> None:
    rates = full_parameters(12, 8)
    for ours, theirs in CONSTANTS.items():
        assert getattr(rates, ours) == pytest.approx(float(golden[f"const.{theirs}"]), abs=1e-6)
    assert_near(rates.weights, golden["weights"])
    assert_near(rates.weights.clamp_min(0), golden["weights_truncated"])


def test_the_recorded_run_is_reproduced_from_its_start(golden: dict[str, Tensor]) -> None:
    strategy = CmaEs.official(golden["g0.mean_before"], population_size=8)
    for g in range(6):
        strategy.tell(golden[f"g{g}.fitness"], golden[f"g{g}.x"])
        state = strategy.state()
        assert_near(state["mean"], after(golden, g, "mean"))
        assert_near(state["sigma"], after(golden, g, "sigma"))
        assert_near(state["C"], after(golden, g, "C"))
        assert_near(state["evo_path_c"], after(golden, g, "evo_path_c"))
        # Recorded candidates are rounded to float32, which a step size of 0.06 makes 1e-6.
        assert_near(state["evo_path_sigma"], after(golden, g, "evo_path_sigma"), 2e-6)


@pytest.mark.parametrize("generation", range(6))
def test_an_official_state_goes_on_as_recorded(golden: dict[str, Tensor], generation: int) -> None:
    g = generation
    covariance = golden[f"g{g}.C_sampled"] - (1e-6 if g == 0 else 0.0)
    strategy = CmaEs.official(torch.ones(12), population_size=8)
    strategy.load(
        {
            "mean": golden[f"g{g}.mean_before"],
            "sigma": golden[f"g{g}.sigma_before"],
            "C": covariance,
            "evo_path_c": after(golden, g - 1, "evo_path_c"),
            "evo_path_sigma": after(golden, g - 1, "evo_path_sigma"),
            "g": torch.tensor(g),
            "weights": golden["weights"],
        }
    )
    strategy.tell(golden[f"g{g}.fitness"], golden[f"g{g}.x"])
    assert_near(strategy.mean, after(golden, g, "mean"))
    assert_near(torch.tensor(strategy.sigma).double(), after(golden, g, "sigma"))
    assert_near(strategy.covariance, after(golden, g, "C"))


@pytest.mark.parametrize(("size", "population"), [(2, 4), (12, 8), (30, 13), (500, 32), (4172, 32)])
def test_constants_are_those_of_cmaes(size: int, population: int) -> None:
    full = full_parameters(size, population)
    diagonal = separable_parameters(size, population)
    if size < 1000:  # the package builds an n x n matrix at once
        compare_constants(full, cmaes.CMA(np.zeros(size), 1.0, population_size=population))
    compare_constants(diagonal, cmaes.SepCMA(np.zeros(size), 1.0, population_size=population))


def compare_constants(ours: Any, theirs: Any) -> None:
    for name, other in {
        "c_1": "_c1",
        "c_mu": "_cmu",
        "c_sigma": "_c_sigma",
        "d_sigma": "_d_sigma",
        "c_c": "_cc",
        "mu_eff": "_mu_eff",
        "expected_norm": "_chi_n",
    }.items():
        assert getattr(ours, name) == pytest.approx(float(getattr(theirs, other)), rel=1e-12)
    weights = theirs._weights
    np.testing.assert_allclose(ours.weights.numpy()[: len(weights)], weights, rtol=1e-12)


def ellipsoid(candidates: Tensor) -> Tensor:
    scales = torch.logspace(0, 3, candidates.shape[1], dtype=torch.float64)
    return -(scales * candidates.square()).sum(1)


@pytest.mark.parametrize("kind", ["full", "separable"])
def test_sixty_generations_are_those_of_cmaes(kind: str) -> None:
    """Fed the same candidates; the package counts its generations one ahead in the stall test."""
    size, population = 12, 16
    start = torch.linspace(0.5, 1.5, size, dtype=torch.float64)
    ours: CmaEs | SepCma
    theirs: Any
    if kind == "full":
        ours = CmaEs(start, 0.3, population, seed=3, eigen_interval=1)
        theirs = cmaes.CMA(start.numpy().copy(), 0.3, population_size=population)
    else:
        ours = SepCma(start, 0.3, population, seed=3)
        theirs = cmaes.SepCMA(start.numpy().copy(), 0.3, population_size=population)
    theirs._g -= 1
    for _ in range(60):
        candidates = ours.ask()
        fitness = ellipsoid(candidates)
        theirs.tell([(x, -f) for x, f in zip(candidates.numpy(), fitness.tolist(), strict=True)])
        ours.tell(fitness)
    state = ours.state()
    np.testing.assert_allclose(state["mean"].numpy(), theirs._mean, atol=1e-9)
    np.testing.assert_allclose(ours.sigma, theirs._sigma, rtol=1e-6)
    np.testing.assert_allclose(state["C"].numpy(), theirs._C, atol=1e-6)
