"""Strategies find what they look for, resume bit for bit, and refuse what would spoil them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from compare import assert_repeated
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from namm_mm.errors import UsageError
from namm_mm.evolution import CmaEs, SepCma
from namm_mm.evolution.strategy_parameters import full_parameters

pytestmark = pytest.mark.numeric

Make = Callable[[Tensor], CmaEs | SepCma]


def full(mean: Tensor) -> CmaEs:
    return CmaEs(mean, 0.5, 10, seed=1, eigen_interval=1)


def lazy(mean: Tensor) -> CmaEs:
    return CmaEs(mean, 0.5, 10, seed=1, eigen_interval=7)


def separable(mean: Tensor) -> SepCma:
    return SepCma(mean, 0.5, 10, seed=1)


ALL = pytest.mark.parametrize("make", [full, lazy, separable])


def fitness_of(candidates: Tensor) -> Tensor:
    scales = torch.logspace(0, 2, candidates.shape[1], dtype=torch.float64)
    return -(scales * (candidates - 1).square()).sum(1)


def run(strategy: CmaEs | SepCma, generations: int) -> None:
    for _ in range(generations):
        strategy.tell(fitness_of(strategy.ask()))


@ALL
def test_it_finds_the_maximum(make: Make) -> None:
    strategy = make(torch.zeros(6))
    run(strategy, 150)
    torch.testing.assert_close(strategy.mean, torch.ones(6).double(), atol=1e-3, rtol=0)
    assert strategy.best is not None
    assert strategy.best.fitness > -1e-4
    assert strategy.generation == 150


@ALL
@pytest.mark.parametrize("pending", [False, True])
def test_a_loaded_run_goes_on_bit_for_bit(make: Make, pending: bool) -> None:
    through, saved = make(torch.zeros(5)), make(torch.zeros(5))
    run(through, 11)
    run(saved, 11)
    asked = saved.ask() if pending else None
    resumed = make(torch.randn(5))
    resumed.load(saved.state())
    if asked is not None:
        assert_repeated({"asked": through.ask()}, {"asked": asked})
        through.tell(fitness_of(asked))
        resumed.tell(fitness_of(asked))
    run(through, 9)
    run(resumed, 9)
    assert_repeated(resumed.state(), through.state())


@ALL
def test_only_the_order_of_fitness_matters(make: Make) -> None:
    plain, bent = make(torch.zeros(4)), make(torch.zeros(4))
    for _ in range(5):
        fitness = fitness_of(plain.ask())
        bent.ask()
        plain.tell(fitness)
        bent.tell((fitness / 100).exp() * 7 - 3)
    torch.testing.assert_close(plain.mean, bent.mean)


@ALL
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_fitness_that_is_no_number_is_refused_and_changes_nothing(make: Make, bad: float) -> None:
    strategy = make(torch.zeros(4))
    fitness = fitness_of(strategy.ask())
    before = {name: value.clone() for name, value in strategy.state().items()}
    fitness[3] = bad
    with pytest.raises(UsageError, match="1 NaN or infinite of 10"):
        strategy.tell(fitness)
    assert_repeated(strategy.state(), before)


@ALL
def test_a_generation_of_another_size_is_refused(make: Make) -> None:
    strategy = make(torch.zeros(4))
    candidates = strategy.ask()
    with pytest.raises(UsageError, match=r"fitness \(9,\).*expected fitness \(10,\)"):
        strategy.tell(fitness_of(candidates)[:9])
    with pytest.raises(UsageError, match=r"population \(10, 4\)"):
        strategy.tell(fitness_of(candidates), candidates[:, :3])


@ALL
def test_tell_needs_candidates(make: Make) -> None:
    with pytest.raises(UsageError, match="call ask"):
        make(torch.zeros(4)).tell(torch.zeros(10))


@ALL
def test_a_state_of_another_size_is_refused(make: Make) -> None:
    with pytest.raises(UsageError, match=r"wrong .* in the state"):
        make(torch.zeros(4)).load(make(torch.zeros(5)).state())
    state = make(torch.zeros(4)).state()
    del state["evo_path_c"]
    with pytest.raises(UsageError, match=r"incomplete .* 'evo_path_c'"):
        make(torch.zeros(4)).load(state)


@pytest.mark.parametrize(
    ("mean", "sigma", "population"),
    [
        (torch.zeros(3, 3), 0.1, 8),
        (torch.tensor([0.0, torch.nan]), 0.1, 8),
        (torch.zeros(4), 0.0, 8),
        (torch.zeros(4), float("nan"), 8),
        (torch.zeros(4), 0.1, 3),
    ],
)
def test_a_start_that_cannot_be_is_refused(mean: Tensor, sigma: float, population: int) -> None:
    for make in (CmaEs, SepCma):
        with pytest.raises(UsageError, match="wrong"):
            make(mean, sigma, population)


def test_rotating_the_problem_rotates_the_full_search() -> None:
    """Candidates are fed, so that both searches see the same ones up to the rotation."""
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    start = torch.randn(5, dtype=torch.float64)
    plain = CmaEs(start, 0.5, 10, eigen_interval=1)
    turned = CmaEs(rotation @ start, 0.5, 10, eigen_interval=1)
    for _ in range(20):
        candidates = plain.ask()
        plain.tell(fitness_of(candidates))
        turned.tell(fitness_of(candidates), candidates @ rotation.T)
    torch.testing.assert_close(turned.mean, rotation @ plain.mean)
    torch.testing.assert_close(turned.covariance, rotation @ plain.covariance @ rotation.T)


def test_a_lazy_search_at_the_size_of_a_namm_decomposes_rarely() -> None:
    rates = full_parameters(4172, 32)
    assert rates.mu_eff == pytest.approx(9.179, abs=1e-3)
    assert rates.c_1 == pytest.approx(1.148e-7, rel=1e-3)
    assert rates.c_mu == pytest.approx(8.366e-7, rel=1e-3)
    assert rates.lazy_interval == 25


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(2, 12),
    population=st.integers(4, 20),
    seed=st.integers(0, 1000),
    separable=st.booleans(),
)
def test_any_fitness_keeps_the_search_sound(
    size: int, population: int, seed: int, separable: bool
) -> None:
    kind = SepCma if separable else CmaEs
    strategy = kind(torch.zeros(size), 0.3, population, seed=seed)
    noise = torch.Generator().manual_seed(seed)
    for _ in range(8):
        strategy.ask()
        strategy.tell(torch.randn(population, generator=noise).round())  # with ties
    covariance = strategy.state()["C"]
    values = covariance if separable else torch.linalg.eigvalsh(covariance)
    assert bool((values > 0).all())
    assert strategy.sigma > 0
    assert bool(strategy.mean.isfinite().all())
