"""Which differences between policies hold: a paired test, and Holm's correction over a table.

References
----------
.. [1] R. A. Fisher, "The design of experiments", 1935, section 21: the sign-flip test.
.. [2] S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
"""A difference holds where its adjusted p-value is below this."""

FLIPS = 20_000
"""Random sign flips, where there are too many to try all."""

EXACT = 12
"""Up to so many pairs that differ, all sign flips are tried."""

NORMAL = 2000
"""From so many pairs that differ on, the normal distribution is used."""

_CHUNK = 4_000_000
_ROUNDING = 1e-12


def paired_p_value(differences: NDArray[np.float64], *, seed: int = 0) -> float:
    """Return the two-sided p-value of a mean difference of zero, by flipping signs [1]_.

    Under the hypothesis that two policies are alike, each difference had the other sign with equal
    probability. For right-or-wrong scores this is McNemar's exact test.

    Parameters
    ----------
    differences
        (n,) one for each sample.
    seed
        Of the random flips.
    """
    sizes = np.abs(differences[differences != 0.0])
    if not sizes.size:
        return 1.0
    observed = abs(float(differences.sum()))
    if sizes.size >= NORMAL:
        return 2 * NormalDist().cdf(-observed / float(np.sqrt((sizes**2).sum())))
    if np.ptp(sizes) == 0.0:
        return sign_test(int((differences > 0).sum()), sizes.size)
    reached = observed * (1 - _ROUNDING) - _ROUNDING
    if sizes.size <= EXACT:
        patterns = np.arange(2**sizes.size)[:, None] >> np.arange(sizes.size) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ sizes) >= reached))
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // sizes.size)
    count = 0
    for start in range(0, FLIPS, rows):
        shape = (min(rows, FLIPS - start), sizes.size)
        signs = generator.integers(0, 2, size=shape, dtype=np.int8) * np.int8(2) - np.int8(1)
        count += int((np.abs(signs @ sizes) >= reached).sum())
    return (count + 1) / (FLIPS + 1)


def sign_test(positive: int, n: int) -> float:
    """Return the exact two-sided p-value of `positive` of `n` signs under even odds."""
    tail = min(positive, n - positive)
    below = sum(comb(n, k) for k in range(tail + 1))
    return min(1.0, float(2 * below / 2**n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of one table, adjusted by Holm's method [2]_, in the same order."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
