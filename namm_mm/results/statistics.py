"""95 % intervals of scores and of differences between policies.

All rules are deterministic:

- The mean of right-or-wrong scores (every value 0 or 1) has the Wilson score interval [1]_. It
  stays inside [0, 1] and does not collapse when all answers are right.
- Any other mean of fewer than 30 values has the BCa bootstrap [2]_ over samples, and Student's t
  where BCa is not defined. From 30 values on it has the percentile bootstrap, from 2000 on the
  normal interval, from which the bootstrap no longer differs.
- A difference between two policies is taken sample by sample, on the samples that both answered.
  Its interval follows the same rules, with pairs as values. Where every pair of right-or-wrong
  scores differs by the same amount, resampling can only repeat it, so Newcombe's interval for
  paired proportions [3]_ is used.

One value alone has no interval: both ends are NaN, and tables say so.

References
----------
.. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
.. [2] B. Efron, "Better bootstrap confidence intervals", 1987.
.. [3] R. G. Newcombe, "Improved confidence intervals for the difference between binomial
   proportions based on paired data", 1998, method 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from namm_mm.results.significance import paired_p_value

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""

RESAMPLES = 2000

FEW = 30
"""Below so many values, an interval is that of BCa, from at least `FEW_RESAMPLES`."""

FEW_RESAMPLES = 10_000

MANY = 2000
"""From so many values on, an interval is the normal one."""

_NORMAL = NormalDist()

STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048,
)  # fmt: skip
"""97.5 % quantiles of Student's t with 1 to 28 degrees of freedom."""

_CHUNK = 2_000_000  # indices drawn at a time: 16 MB


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes
    ----------
    mean, low, high
        In the unit of the values. The ends are NaN where there is one value alone.
    n
        Number of values (or pairs).
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """Whether it has ends."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


@dataclass(frozen=True)
class Difference(Interval):
    """A mean paired difference with its 95 % interval.

    Attributes
    ----------
    p_value
        Of no difference: :func:`namm_mm.results.significance.paired_p_value`.
    """

    p_value: float


def mean_interval(
    values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval | None:
    """Return the mean of independent `values` with its 95 % interval; None for no values.

    Parameters
    ----------
    values
        (n,) one finite number for each sample.
    seed, resamples
        Of the bootstrap.
    """
    numbers = np.asarray(values, dtype=np.float64).ravel()
    if numbers.size == 0:
        return None
    mean = float(numbers.mean())
    if is_binary(numbers):
        low, high = wilson(mean, numbers.size)
    else:
        low, high = _bootstrap(numbers, seed, resamples)
    return Interval(mean, low, high, int(numbers.size))


def paired_difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference | None:
    """Return the mean of ``first - second`` over the samples of both, with its 95 % interval.

    Parameters
    ----------
    first, second
        Sample to value, for two policies.
    seed, resamples
        Of the bootstrap.

    Returns
    -------
    Difference or None
        None where they share no sample.
    """
    shared = [sample for sample in first if sample in second]
    if not shared:
        return None
    a = np.array([first[sample] for sample in shared], dtype=np.float64)
    b = np.array([second[sample] for sample in shared], dtype=np.float64)
    difference = a - b
    if len(shared) > 1 and np.ptp(difference) == 0.0 and is_binary(a) and is_binary(b):
        low, high = newcombe(a, b)
    else:
        low, high = _bootstrap(difference, seed, resamples)
    p_value = paired_p_value(difference, seed=seed)
    return Difference(float(difference.mean()), low, high, len(shared), p_value)


def is_binary(values: NDArray[np.float64]) -> bool:
    """Whether every value is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def wilson(rate: float, n: int) -> tuple[float, float]:
    """Return the Wilson score interval of a `rate` in [0, 1] seen in `n` trials."""
    centre = (rate + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def newcombe(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float]:
    """Return the interval of the difference of two paired proportions, from 0/1 values (n,)."""
    n = first.size
    rates = float(first.mean()), float(second.mean())
    (low1, high1), (low2, high2) = (wilson(rate, n) for rate in rates)
    spread = np.sqrt(np.prod([rate * (1 - rate) for rate in rates]))
    covariance = float(np.mean(first * second)) - rates[0] * rates[1]
    phi = covariance / spread if spread > 0 else 0.0

    def half(d1: float, d2: float) -> float:
        return float(np.sqrt(max(0.0, d1**2 - 2 * phi * d1 * d2 + d2**2)))

    difference = rates[0] - rates[1]
    return (
        max(-1.0, difference - half(rates[0] - low1, high2 - rates[1])),
        min(1.0, difference + half(high1 - rates[0], rates[1] - low2)),
    )


def _bootstrap(values: NDArray[np.float64], seed: int, resamples: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean of `values` (n,)."""
    return _bootstrap_of(values.tobytes(), seed, resamples)


@lru_cache(maxsize=1024)
def _bootstrap_of(numbers: bytes, seed: int, resamples: int) -> tuple[float, float]:
    """As :func:`_bootstrap`: a report and the console ask for the same intervals."""
    values = np.frombuffer(numbers, dtype=np.float64)
    if values.size == 1:
        return float("nan"), float("nan")
    if values.size >= MANY:
        mean, half = values.mean(), Z * values.std(ddof=1) / np.sqrt(values.size)
        return float(mean - half), float(mean + half)
    few = values.size < FEW
    count = max(resamples, FEW_RESAMPLES) if few else resamples
    means = np.concatenate(list(_resampled_means(values, seed, count)))
    if few:
        return _bca(values, means) or student(values)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def _bca(values: NDArray[np.float64], means: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the BCa interval from the resampled `means`; None where it is not defined.

    Efron (1987), equation 6.8, with the jackknife estimate of the acceleration, which for a mean is
    a sixth of the skewness over the root of n.
    """
    mean = values.mean()
    below = float(np.mean(means < mean) + np.mean(means <= mean)) / 2
    spread = values - mean
    squares = float((spread**2).sum())
    if not 0.0 < below < 1.0 or squares == 0.0:
        return None
    bias = _NORMAL.inv_cdf(below)
    acceleration = float((spread**3).sum()) / (6 * squares**1.5)
    levels = []
    for quantile in (-Z, Z):
        shifted = bias + quantile
        levels.append(_NORMAL.cdf(bias + shifted / (1 - acceleration * shifted)))
    low, high = np.quantile(means, levels)
    return float(low), float(high)


def student(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return Student's t interval of the mean of 2 to 29 `values` (n,)."""
    half = STUDENT[values.size - 2] * values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean() - half), float(values.mean() + half)


def _resampled_means(
    values: NDArray[np.float64], seed: int, resamples: int
) -> Iterator[NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // values.size)
    for start in range(0, resamples, rows):
        size = (min(rows, resamples - start), values.size)
        yield values[generator.integers(values.size, size=size)].mean(axis=1)


def mean_or_none(values: Sequence[float]) -> float | None:
    """Return the plain mean of `values`; None for none."""
    return float(np.mean(values)) if len(values) else None
