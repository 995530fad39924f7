"""Which frames of a video are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLINGS = ("even", "ends", "stride")
"""How frames are spread over a file, see :func:`spread`."""


def spread(total: int, count: int, sampling: str = "even") -> NDArray[np.int64]:
    """Indices of `count` frames of `total`; where `total` is smaller, each frame once.

    ``even`` is :func:`uniform_indices`; ``ends`` goes from the first to the last frame, as the
    evaluation code of the LLaVA models does; ``stride`` takes every ``floor(total / count)``-th, as
    LongVideoBench does.
    """
    if sampling == "ends":
        return np.linspace(0, max(total - 1, 0), min(total, count)).astype(np.int64)
    if sampling == "stride":
        count = min(total, count)
        return np.arange(count, dtype=np.int64) * (total // max(count, 1))
    return uniform_indices(total, count)


def uniform_indices(total: int, count: int) -> NDArray[np.int64]:
    """Indices of `count` frames spread evenly over `total`: ``floor(i * total / count)``.

    That is the sampling of the Hugging Face video processors. Where `total` is smaller than
    `count`, each frame comes once.
    """
    count = min(total, count)
    return np.arange(count, dtype=np.int64) * total // max(count, 1)
