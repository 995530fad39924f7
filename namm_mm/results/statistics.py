"""How sure a mean is: 95 % intervals of scores and of differences between policies.

Three rules, all deterministic:

- a mean of rights and wrongs (every value 0 or 1) has the Wilson score interval [1]_, which stays
  inside [0, 1] and does not collapse when all answers are right;
- any other mean has the percentile bootstrap [2]_ over samples (from 2000 samples on the normal
  interval, from which it no longer differs);
- a difference between two policies is taken sample by sample, on the samples that both answered,
  and has the percentile bootstrap over these pairs. Where every pair of right-or-wrong scores
  differs by the same amount, resampling can only repeat it, so that Newcombe's interval for paired
  proportions [3]_ stands in.

One value alone has no interval: both ends are NaN, and tables say so.

References
----------
.. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
.. [2] B. Efron, "Bootstrap methods: another look at the jackknife", 1979.
.. [3] R. G. Newcombe, "Improved confidence intervals for the difference between binomial
   proportions based on paired data", 1998, method 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""

RESAMPLES = 2000
MANY = 2000
"""From so many values on, an interval is the normal one."""

_CHUNK = 2_000_000  # indices drawn at a time: 16 MB


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes
    ----------
    mean, low, high
        In the unit of the values; the ends are NaN where one value is all there is.
    n
        How many values (or pairs) it rests on.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """Whether it has ends."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


def mean_interval(
    values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval | None:
    """Mean of independent `values` (n,) with its 95 % interval; None for no values.

    Parameters
    ----------
    values
        One finite number for each sample.
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
) -> Interval | None:
    """Mean of ``first - second`` over the samples of both, with its 95 % interval.

    Parameters
    ----------
    first, second
        Sample to value, for two policies.
    seed, resamples
        Of the bootstrap.

    Returns
    -------
    Interval or None
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
    return Interval(float(difference.mean()), low, high, len(shared))


def is_binary(values: NDArray[np.float64]) -> bool:
    """Whether every value is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def wilson(rate: float, n: int) -> tuple[float, float]:
    """Wilson score interval of a `rate` in [0, 1] seen in `n` trials."""
    centre = (rate + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def newcombe(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float]:
    """Interval of the difference between two paired proportions, from their 0/1 values (n,)."""
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
    """95 % percentile interval of the mean of `values` (n,) under resampling."""
    if values.size == 1:
        return float("nan"), float("nan")
    if values.size >= MANY:
        mean, half = values.mean(), Z * values.std(ddof=1) / np.sqrt(values.size)
        return float(mean - half), float(mean + half)
    means = np.concatenate(list(_resampled_means(values, seed, resamples)))
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def _resampled_means(
    values: NDArray[np.float64], seed: int, resamples: int
) -> Iterator[NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // values.size)
    for start in range(0, resamples, rows):
        size = (min(rows, resamples - start), values.size)
        yield values[generator.integers(values.size, size=size)].mean(axis=1)


def mean_or_none(values: Sequence[float]) -> float | None:
    """Plain mean of `values`, or None for none."""
    return float(np.mean(values)) if len(values) else None
