"""KVzip, an upper bound: what the model needs to repeat its prompt stays (arXiv 2505.23416)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import Budget, LayerView, Policy, Selection

if TYPE_CHECKING:
    from torch import Tensor

LATER = 2.0
"""Score of tokens that came after the prompt: above any attention weight."""


@dataclass(frozen=True)
class KVzip(Policy):
    """The largest weight that a token receives while the model is asked to repeat the prompt.

    An oracle and no streaming policy: it reads the whole prompt, and reads it again in a pass of
    its own, before the first token is evicted. Tables call it a bound. Heads of a layer share its
    budget, without a floor, which needs storage per head.

    Attributes
    ----------
    scores
        For each layer (kv_head, token); :meth:`for_repetition` sets it.
    """

    name: ClassVar[str] = "kvzip (bound)"
    content: ClassVar[str | None] = "text"
    repeats: ClassVar[bool] = True
    sinks: float = 4
    scores: tuple[Tensor, ...] = field(default=(), repr=False, compare=False)

    @property
    def selection(self) -> Selection:
        """The budget, shared by the heads of a layer."""
        budget = super().selection
        if not isinstance(budget, Budget) or budget.trace is not None or budget.table is not None:
            return budget
        return replace(budget, pooled=True)

    def for_repetition(self, scores: Sequence[Tensor]) -> Self:
        """Return the policy with the largest weights, (kv_head, token) for each layer."""
        return replace(self, scores=tuple(scores))

    def score(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot): the largest weight; more for what came after the prompt."""
        import torch

        if not self.scores:
            raise UsageError(
                message(
                    "kvzip has not seen the model repeat its prompt",
                    given="no scores",
                    expected="namm_mm.memory.repetition.repetition_scores, then for_repetition",
                )
            )
        known = self.scores[view.layer].to(view.positions.device).float()
        length = known.shape[-1]
        table = torch.nn.functional.pad(known, (0, 1), value=LATER)
        place = view.positions.clamp(min=0, max=length)
        return table.expand(place.shape[0], -1, -1).gather(-1, place)
