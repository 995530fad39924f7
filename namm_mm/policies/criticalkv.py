"""CriticalKV: the second half of the budget goes to values that change the output (2502.03805)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from namm_mm.errors import UnsupportedError, UsageError, message
from namm_mm.policies.base import LayerView
from namm_mm.policies.over import Over
from namm_mm.policies.projections import output_projections

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class CriticalKV(Over):
    """First the best tokens of the policy below, then the best of ``(score + eps) |W_o v|``.

    The norm is L1, mean over the query group. Made for scores that are shares of attention, such
    as those of snapkv, tova and h2o.

    Attributes
    ----------
    first
        Part of the budget that the policy below spends alone.
    epsilon
        What a token without any attention counts.
    """

    first: float = 0.5
    epsilon: float = 1e-4
    projections: tuple[Tensor, ...] = field(default=(), repr=False, compare=False)

    @property
    def name(self) -> str:
        """Its own name and that of the policy below."""
        return f"criticalkv({self.below.name})"

    def check(self) -> None:
        """Raise `UsageError` for a part outside 0 to 1."""
        if not 0.0 <= self.first <= 1.0:
            raise UsageError(
                message("wrong first of criticalkv", given=self.first, expected="0 to 1, a part")
            )

    def for_model(self, model: nn.Module) -> Self:
        """Return the policy with the output projections of `model`.

        Raises
        ------
        UnsupportedError
            The model has none that are known.
        """
        return replace(super().for_model(model), projections=output_projections(model))

    def score(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot): the tokens of the first part above all others."""
        if not self.projections:
            raise UnsupportedError(
                message(
                    f"{self.name} needs the output projections of a model",
                    given="no model",
                    expected="a policy that is attached to one",
                )
            )
        below = self.below.score(view)
        first = self.below.protect(below, view).masked_fill(~view.filled, float("-inf"))
        rank = first.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        limits = view.lengths if view.limits is None else view.limits
        chosen = rank < (limits * self.first).long()[..., None]
        scores = (below + self.epsilon) * self._norms(view)
        highest = scores.masked_fill(~view.filled, 0.0).amax(-1, keepdim=True).clamp_min(0.0)
        return scores.where(~chosen, highest + 1.0)

    def _norms(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot): L1 norm of what the value writes, mean over the query group."""
        import torch

        rows, heads, slots, dim = view.values.shape
        weights = self.projections[view.layer].to(view.values.device).float()
        grouped = weights.view(heads, -1, dim, weights.shape[-1])
        norms = torch.zeros(rows, heads, slots, device=view.values.device)
        for member in range(grouped.shape[1]):  # one at a time: the products are large
            norms += (view.values.float() @ grouped[:, member]).abs().sum(-1)
        return norms / grouped.shape[1]
