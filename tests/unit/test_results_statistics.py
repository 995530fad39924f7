from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from namm_mm.results.significance import holm, paired_p_value, sign_test
from namm_mm.results.statistics import (
    STUDENT,
    mean_interval,
    newcombe,
    paired_difference,
    wilson,
)
from namm_mm.results.styles import error_bars

pytestmark = pytest.mark.numeric


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


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [  # scipy.stats.bootstrap(method="BCa", n_resamples=200_000)
        ([0.2, 0.4, 0.5, 0.9, 1.3, 2.8, 3.1, 7.5], 0.9625, 4.5375),
        (
            [3.1, 2.9, 3.4, 3.3, 2.8, 3.0, 3.6, 3.2, 2.7, 3.05, 3.15, 2.95],
            2.97083,
            3.25,
        ),
    ],
)
def test_below_thirty_values_the_interval_is_that_of_bca(
    values: list[float], low: float, high: float
) -> None:
    found = mean_interval(values)
    assert found is not None
    scale = found.high - found.low
    assert found.low == pytest.approx(low, abs=0.02 * scale)
    assert found.high == pytest.approx(high, abs=0.03 * scale)


def test_from_thirty_values_on_the_interval_is_the_percentile_bootstrap() -> None:
    values = np.random.default_rng(5).exponential(size=30)
    found = mean_interval(values)
    draws = np.random.default_rng(0).integers(30, size=(2000, 30))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(
        tuple(np.percentile(values[draws].mean(1), (2.5, 97.5)))
    )


def test_where_bca_is_not_defined_student_stands_in() -> None:
    found = mean_interval([2.0, 2.0, 2.0])  # resampling gives 2.0 and nothing else
    assert found is not None
    assert (found.low, found.high) == (2.0, 2.0)
    two = mean_interval([1.0, 3.0], resamples=10)
    assert two is not None
    assert two.low < 1.01
    # scipy.stats.t.ppf(0.975, [1, 9, 28])
    assert (STUDENT[0], STUDENT[8], STUDENT[27]) == (12.706, 2.262, 2.048)
    assert len(STUDENT) == 28


@pytest.mark.parametrize(
    ("differences", "p_value", "tolerance"),
    [  # scipy.stats.permutation_test(permutation_type="samples"), all flips
        ([0.3, -0.1, 0.7, 0.2, 0.05, 0.9, -0.4, 0.6, 0.15, 0.35], 0.060546875, 1e-12),
        ([1, 0, 0, -1, 1, 1, 0, 1, 1, 0, 0, 1, 1, -1], 0.1796875, 1e-12),
        (
            [0.3, -0.1, 0.7, 0.2, 0.05, 0.9, -0.4, 0.6, 0.15, 0.35, 0.11, -0.22, 0.41, 0.08, -0.3],
            0.0684814453125,
            0.006,
        ),
        ([0.0, 0.0], 1.0, 0.0),
    ],
)
def test_the_paired_test_flips_signs(
    differences: list[float], p_value: float, tolerance: float
) -> None:
    found = paired_p_value(np.array(differences, dtype=np.float64))
    assert found == pytest.approx(p_value, abs=tolerance)


def test_for_right_or_wrong_scores_the_paired_test_is_mcnemars() -> None:
    assert sign_test(9, 11) == pytest.approx(0.0654296875)  # scipy.stats.binomtest(9, 11)
    assert sign_test(5, 10) == 1.0
    right = {f"s{i}": 1.0 for i in range(11)}
    other = {f"s{i}": float(i >= 9) for i in range(11)}
    found = paired_difference(right, other)
    assert found is not None
    assert found.p_value == pytest.approx(sign_test(9, 9))


def test_many_pairs_are_tested_as_flips_would_test_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).normal(0.04, 1.0, size=2500)
    normal = paired_p_value(values)
    monkeypatch.setattr("namm_mm.results.significance.NORMAL", 10**9)
    assert paired_p_value(values) == pytest.approx(normal, abs=0.01)


def test_holm_adjusts_by_how_many_comparisons_are_left() -> None:
    # statsmodels.stats.multitest.multipletests(method="holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


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


def test_error_bars_of_nothing_right_and_of_everything_right_are_not_negative() -> None:
    for n in range(2, 60):
        bars = error_bars([mean_interval([0.0] * n), mean_interval([1.0] * n)])
        assert min(*bars["array"], *bars["arrayminus"]) >= 0.0
