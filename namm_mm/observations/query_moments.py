"""Query moments: what queries are like, whatever their position, to expect the next ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.observations.base import Cached, QueryObservation, State
from namm_mm.observations.rotary import Rotary, rotary_of

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class QueryMoments(QueryObservation):
    """Mean and covariance of the queries before RoPE, moved to the positions that come next.

    Attention functions see queries after RoPE; these are turned back by their position. A model
    whose positions are shifted against the memory's (by padding) gives the same result: the shift
    is in the moments and in the keys.

    ``statistics["query_moments"]`` is (row, query_head, 1 + head_dim, head_dim) float32: first the
    mean, then the covariance, both under the mean rotation of the next `future` positions, as
    Expected Attention needs them (arXiv 2510.00636).

    Attributes
    ----------
    skip
        First queries of a row that are left out: attention sinks differ from the others.
    future
        Positions to look ahead.
    rotary
        The rotation of the model; set by :meth:`for_model`.
    """

    skip: int = 4
    future: int = 512
    rotary: Rotary = field(default_factory=Rotary)
    name: ClassVar[str] = "query_moments"

    def __post_init__(self) -> None:
        if self.skip < 0 or self.future < 1:
            raise UsageError(
                message(
                    "wrong query moments",
                    given={"skip": self.skip, "future": self.future},
                    expected="skip of 0 or more, future of 1 or more",
                )
            )

    def for_model(self, model: nn.Module) -> QueryMoments:
        """Return the observation with the rotation of `model`.

        Raises
        ------
        UnsupportedError
            Its queries cannot be turned back.
        """
        return replace(self, rotary=rotary_of(model))

    def fold(self, state: State, queries: Tensor, first: int) -> State:
        """Merge the moments of the new queries into those of the earlier ones."""
        import torch

        left_out = min(max(self.skip - first, 0), queries.shape[2])
        queries = queries[:, :, left_out:]
        first += left_out
        positions = torch.arange(first, first + queries.shape[2], device=queries.device)
        held = state or _nothing(queries)
        if not len(positions):
            return held
        plain = self.rotary.turned(queries.float(), positions, back=True)
        mean = plain.mean(2)
        centred = plain - mean[:, :, None]
        scatter = _packed(centred.transpose(-1, -2) @ centred)
        before, count = held["count"][:, None, None], float(len(positions))
        total = before + count
        difference = mean - held["mean"]
        outer = _packed(difference[..., :, None] * difference[..., None, :])
        return {
            "count": held["count"] + count,
            "mean": held["mean"] + difference * (count / total),
            "scatter": held["scatter"] + scatter + outer * (before * count / total),
        }

    def read(self, state: State, cached: Cached) -> Tensor:
        """Mean and covariance under the mean rotation of the positions that come next."""
        import torch

        mean, count = state["mean"], state["count"].clamp_min(1.0)
        covariance = _unpacked(state["scatter"], mean.shape[-1]) / count[:, None, None, None]
        ahead = torch.arange(cached.seen, cached.seen + self.future, device=mean.device)
        rows = self.rotary.averaged(covariance, ahead)
        both = self.rotary.averaged(rows.transpose(-1, -2), ahead)
        return torch.cat([self.rotary.averaged(mean, ahead)[:, :, None], both], dim=2)


def _nothing(queries: Tensor) -> State:
    """State before any query."""
    rows, heads, _, dim = queries.shape
    numbers = queries.float()
    return {
        "count": numbers.new_zeros(rows),
        "mean": numbers.new_zeros(rows, heads, dim),
        "scatter": numbers.new_zeros(rows, heads, dim * (dim + 1) // 2),
    }


def _packed(symmetric: Tensor) -> Tensor:
    """(..., dim * (dim + 1) / 2): the lower triangle of a symmetric (..., dim, dim), row by row."""
    import torch

    row, column = torch.tril_indices(*symmetric.shape[-2:], device=symmetric.device)
    return symmetric[..., row, column]


def _unpacked(packed: Tensor, dim: int) -> Tensor:
    """(..., dim, dim): the symmetric matrix of a lower triangle."""
    import torch

    row, column = torch.tril_indices(dim, dim, device=packed.device)
    matrix = packed.new_empty(*packed.shape[:-1], dim, dim)
    matrix[..., row, column] = packed
    matrix[..., column, row] = packed
    return matrix
