"""An order of tokens that knows the question and the answer: a bound for every policy.

The model reads the prompt and its right answer with the full cache. The score of a token in a kv
head is the largest attention that it receives from the last tokens of the prompt and from the
answer. No policy can know this when it evicts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from namm_mm.memory.repetition import largest_weights
from namm_mm.policies.base import LayerView, Policy

ASKING = 24
"""Tokens at the end of a prompt whose attention counts, beside those of the answer."""


@dataclass(frozen=True, eq=False)
class Oracle(Policy):
    """Tokens stay by scores that were noted before.

    Attributes
    ----------
    scores
        For each layer (kv_head, token) float32.
    """

    name: ClassVar[str] = "oracle"
    scores: tuple[Tensor, ...] = field(default=(), kw_only=True)

    def score(self, view: LayerView) -> Tensor:
        """Return the noted score of each position."""
        noted = (
            self.scores[view.layer].to(view.positions.device).expand(len(view.positions), -1, -1)
        )
        return noted.gather(-1, view.positions.clamp_min(0))


def oracle_scores(model: Any, tokens: Tensor, answer: int) -> tuple[Tensor, ...]:
    """Return for each layer (kv_head, token) the largest attention at the end of `tokens`.

    Parameters
    ----------
    tokens
        (1, token) int64: the prompt and its answer.
    answer
        Number of tokens of the answer.
    """
    found = largest_weights(model, tokens, min(ASKING + answer, tokens.shape[1]))
    return tuple(found[layer] for layer in sorted(found))
