from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from namm_mm.results.statistics import mean_interval, newcombe, paired_difference, wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # scipy.stats.binomtest(right, n).proportion_ci(method="wilson")
        (0, 5, 0.0, 0.434482465),
        (5, 5, 0.565517535, 1.0),
        (7, 10, 0.396778147, 0.892208733),
        (81, 263, 0.25528852, 0.366209577),
    ],
)
def test_accuracy_interval_is_the_one_of_wilson(
    right: int, n: int, low: float, high: float
) -> None:
    assert wilson(right / n, n) == pytest.approx((low, high), abs=1e-8)
    found = mean_interval([1.0] * right + [0.0] * (n - right))
    assert found is not None
    assert found.n == n
    assert found.mean == pytest.approx(right / n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-8)


def test_bootstrap_covers_the_true_mean_about_95_times_in_100() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        found = mean_interval(generator.normal(3.0, 2.0, size=40), seed=trial, resamples=500)
        assert found is not None
        covered += found.low <= 3.0 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_pairing_removes_what_samples_have_in_common() -> None:
    generator = np.random.default_rng(1)
    hard = {f"s{i}": float(v) for i, v in enumerate(generator.normal(0, 100, size=50))}
    easier = {s: v + 1.0 + float(generator.normal(0, 0.1)) for s, v in hard.items()}
    found = paired_difference(easier, hard)
    assert found is not None
    assert found.low > 0.9
    assert found.high < 1.1


def test_pairing_uses_shared_samples_only() -> None:
    found = paired_difference({"a": 5.0, "b": 1.0, "c": 3.0}, {"b": 0.0, "c": 0.5, "d": 9.0})
    assert found is not None
    assert found.n == 2
    assert found.mean == pytest.approx(1.75)
    assert paired_difference({"a": 1.0}, {"b": 1.0}) is None


def test_equal_answers_do_not_prove_equal_accuracy() -> None:
    values = {f"s{i}": float(i < 7) for i in range(10)}
    found = paired_difference(values, dict(values))
    assert found is not None
    assert found.mean == 0.0
    assert found.low < -0.05
    assert found.high > 0.05


def test_newcombe_reproduces_its_published_example() -> None:
    # Newcombe (1998), Table II, row (e 36, f 12, g 2, h 0): method 10 gives 0.0569 to 0.3404.
    pairs = [(1.0, 1.0)] * 36 + [(1.0, 0.0)] * 12 + [(0.0, 1.0)] * 2
    first, second = np.array(pairs).T
    assert newcombe(first, second) == pytest.approx((0.0569, 0.3404), abs=1e-4)


def test_the_normal_interval_of_many_values_is_what_the_bootstrap_would_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(4).exponential(5.0, size=2000)
    normal = mean_interval(values)
    monkeypatch.setattr("namm_mm.results.statistics.MANY", 10**9)
    resampled = mean_interval(values, resamples=4000)
    assert normal is not None
    assert resampled is not None
    assert normal.mean == resampled.mean
    assert normal.low == pytest.approx(resampled.low, abs=0.02)
    assert normal.high == pytest.approx(resampled.high, abs=0.02)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    found = mean_interval([0.5])
    assert found is not None
    assert math.isnan(found.low)
    assert not found.known
    assert mean_interval([]) is None


def test_intervals_repeat_exactly_and_do_not_depend_on_the_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(3).normal(size=200)
    first, again = mean_interval(values), mean_interval(values)
    assert first == again
    monkeypatch.setattr("namm_mm.results.statistics._CHUNK", 1000)
    chunked = mean_interval(values)
    assert first is not None
    assert chunked is not None
    assert dataclasses.astuple(chunked) == pytest.approx(dataclasses.astuple(first))
