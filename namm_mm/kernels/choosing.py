"""Which kernels run on a device."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, cast

from namm_mm.errors import UsageError, message

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from namm_mm.kernels.regions import Regions
    from namm_mm.observations.base import State, WeightsObservation
    from namm_mm.observations.formula import Formula

VARIABLE = "NAMM_MM_KERNELS"
"""``torch`` in this variable of the environment turns kernels off."""

CHOICES = ("triton", "torch")


class Kernels(Protocol):
    """What a set of kernels offers."""

    def attends(self, queries: Tensor, values: Tensor) -> bool:
        """Whether attention of this dtype and these sizes of heads is served."""
        ...

    def attend(
        self, queries: Tensor, regions: Regions, formula: Formula, *, out: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Attention output (row, query_head, query, value_dim), and the log-sum-exp.

        Parameters
        ----------
        queries
            (row, query_head, query, head_dim): those of the newest tokens.
        out
            Whether the output is wanted; else it is an empty tensor.

        Returns
        -------
        tuple
            The output, in the dtype of the values, and (row, query_head, query) float32.
        """
        ...

    def observes(self, observation: WeightsObservation, formula: Formula) -> bool:
        """Whether `fold` serves this observation."""
        ...

    def fold(
        self,
        observation: WeightsObservation,
        state: State,
        queries: Tensor,
        complete: int,
        normaliser: Tensor,
        regions: Regions,
        formula: Formula,
    ) -> State:
        """Return the opened `state` after the first `complete` of the newest queries.

        Parameters
        ----------
        normaliser
            (row, query_head, query) float32: what `attend` gave.
        """
        ...


def chosen(device: torch.device) -> Kernels | None:
    """Return the kernels for `device`; None where plain torch computes.

    Raises
    ------
    UsageError
        The environment asks for what is unknown.
    """
    return _triton() if device.type == "cuda" else None


@lru_cache(maxsize=1)
def _triton() -> Kernels | None:
    asked = os.environ.get(VARIABLE, CHOICES[0])
    if asked not in CHOICES:
        raise UsageError(message(f"wrong {VARIABLE}", given=asked, expected="one", valid=CHOICES))
    if asked == "torch" or find_spec("triton") is None:
        return None
    return cast("Kernels", import_module("namm_mm.kernels.triton"))
