"""Comparisons of tensors that say what may differ.

Processors round sums differently. What is computed in two ways is compared with a tolerance
(`torch.testing.assert_close`). These helpers are for what must not differ by a bit: indices,
copies, and the same operations in the same order on the same machine.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def assert_same_indices(got: Tensor, expected: Tensor) -> None:
    """Fail unless two tensors of integers or booleans are equal."""
    assert not got.is_floating_point(), f"{got.dtype} is rounded: compare with a tolerance"
    torch.testing.assert_close(got, expected, atol=0, rtol=0)


def assert_copied(got: Tensor, original: Tensor) -> None:
    """Fail unless `got` holds the numbers of `original`, which was stored, loaded or left alone."""
    torch.testing.assert_close(got, original, atol=0, rtol=0)


def assert_repeated(got: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> None:
    """Fail unless a run that was repeated or resumed on this machine ended in the same state."""
    assert got.keys() == first.keys()
    for name, value in first.items():
        # equal_nan: numbers that no generation set yet are NaN in a saved state
        torch.testing.assert_close(got[name], value, atol=0, rtol=0, equal_nan=True)
