"""What files need to know of a NAMM, so that they need not know the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from namm_mm.namm.params import Layout


class Saved(Protocol):
    """What is saved of a NAMM; see :class:`namm_mm.namm.network.Namm` for its attributes."""

    @property
    def parameters(self) -> Tensor:
        """Flat vector."""

    @property
    def mean(self) -> Tensor:
        """Mean of the features."""

    @property
    def variance(self) -> Tensor:
        """Variance of the features."""

    @property
    def relative(self) -> bool:
        """Whether it sees attention relative to an equal share."""

    @property
    def card(self) -> Mapping[str, Any]:
        """How it was made."""

    @property
    def layout(self) -> Layout:
        """Layout of the vector."""
