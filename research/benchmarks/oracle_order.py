"""An order of tokens that knows the question and the answer: a bound for every policy.

The model reads the prompt and its right answer with the full cache. The score of a token in a kv
head is the largest attention that it receives from the last tokens of the prompt and from the
answer. No policy can know this when it evicts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from namm_mm.memory import attach
from namm_mm.observations.last_queries import LastQueries
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


@dataclass(frozen=True, eq=False)
class _Listener(Policy):
    """Notes the largest attention that every token receives from the last queries."""

    name: ClassVar[str] = "oracle_listener"
    count: int = 1
    found: dict[int, Tensor] = field(default_factory=dict, compare=False)

    @property
    def needs(self) -> LastQueries:
        """The last tokens of the prompt, and the answer."""
        return LastQueries(self.count)

    def score(self, view: LayerView) -> Tensor:
        """Return positions; what is evicted afterwards does not matter."""
        weights = view.statistics["last_queries"]
        rows, heads, slots = view.positions.shape
        largest = weights.view(rows, heads, -1, slots).amax(2)
        noted = largest.new_zeros(rows, heads, view.seen)
        self.found[view.layer] = noted.scatter_(-1, view.positions.clamp_min(0), largest)[0]
        return view.positions.float()


def oracle_scores(model: Any, tokens: Tensor, answer: int) -> tuple[Tensor, ...]:
    """Return for each layer (kv_head, token) the largest attention at the end of `tokens`.

    Parameters
    ----------
    tokens
        (1, token) int64: the prompt and its answer.
    answer
        Number of tokens of the answer.
    """
    listener = _Listener(count=min(ASKING + answer, tokens.shape[1]))
    with torch.no_grad(), attach(model, listener, protocol="prune_after_prefill"):
        model(input_ids=tokens, use_cache=True)
    return tuple(listener.found[layer] for layer in sorted(listener.found))
