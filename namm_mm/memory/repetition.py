"""What a model attends to while it is asked to repeat its prompt, in a pass of its own (KVzip).

A bound needs to know more than a streaming policy can: the whole prompt, before anything is
evicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from namm_mm.memory.attach import attach
from namm_mm.observations.last_queries import LastQueries
from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import nn

REQUEST = "\n\nRepeat the previous context exactly."
"""What the model is asked, as published."""

CHUNK = 2048
"""Tokens of the prompt that are repeated in one pass, as published."""


@dataclass(frozen=True)
class _Listener(Policy):
    """Notes the largest weight that the last `count` queries give to every token."""

    name: ClassVar[str] = "listener"
    count: int = 1
    found: dict[int, Tensor] = field(default_factory=dict, compare=False)

    @property
    def needs(self) -> LastQueries:
        """The last queries."""
        return LastQueries(self.count)

    def score(self, view: LayerView) -> Tensor:
        """Position; what is evicted afterwards does not matter."""
        weights = view.statistics["last_queries"]
        rows, heads, slots = view.positions.shape
        largest = weights.view(rows, heads, -1, slots).amax(2)
        noted = largest.new_zeros(rows, heads, view.seen)  # a window may hold fewer tokens
        places = view.positions.clamp_min(0)
        self.found[view.layer] = noted.scatter_reduce_(-1, places, largest, "amax")[0]
        return view.positions.float()


def largest_weights(model: nn.Module, tokens: Tensor, count: int) -> dict[int, Tensor]:
    """Return the largest weight that each token receives from the last queries of a call.

    Parameters
    ----------
    model
        A language model that takes ``input_ids``.
    tokens
        (1, token) int64, on the device of the model.
    count
        Number of last queries.

    Returns
    -------
    dict of int to Tensor
        For each layer (kv_head, token) float32: the largest over queries and the query group; 0
        outside a sliding window.
    """
    called: Any = model
    listener = _Listener(count=count)
    with torch.no_grad(), attach(model, listener, protocol="prune_after_prefill"):
        called(input_ids=tokens, use_cache=True, logits_to_keep=1)
    return listener.found


def repetition_scores(
    model: nn.Module, tokens: Sequence[int], request: Sequence[int]
) -> tuple[Tensor, ...]:
    """Return the largest weight that each token of a prompt receives while it is repeated.

    Parameters
    ----------
    model
        A language model that takes ``input_ids``.
    tokens
        The prompt.
    request
        The tokens that ask for the repetition: those of :data:`REQUEST`.

    Returns
    -------
    tuple of Tensor
        For each layer (kv_head, token) float32: the largest over queries and the query group.
    """
    device = next(model.parameters()).device
    best: dict[int, Tensor] = {}
    for start in range(0, len(tokens), CHUNK):
        repeated = [*request, *tokens[start : start + CHUNK]]
        ids = torch.tensor([[*tokens, *repeated]], device=device)
        for layer, weights in largest_weights(model, ids, len(repeated)).items():
            found = weights[:, : len(tokens)]
            best[layer] = torch.maximum(best[layer], found) if layer in best else found
    return tuple(best[layer] for layer in sorted(best))
