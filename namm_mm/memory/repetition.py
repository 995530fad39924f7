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
    """Notes the largest weight that the last `count` queries give to each of the first tokens."""

    name: ClassVar[str] = "listener"
    count: int = 1
    prompt: int = 1
    found: dict[int, Tensor] = field(default_factory=dict, compare=False)

    @property
    def needs(self) -> LastQueries:
        """The queries of the repetition."""
        return LastQueries(self.count)

    def score(self, view: LayerView) -> Tensor:
        """Position; what is evicted afterwards does not matter."""
        weights = view.statistics["last_queries"]
        rows, heads = view.positions.shape[:2]
        largest = weights.view(rows, heads, -1, weights.shape[-1]).amax(2)
        self.found[view.layer] = largest[0, :, : self.prompt]
        return view.positions.float()


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
    called: Any = model
    best: dict[int, Tensor] = {}
    for start in range(0, len(tokens), CHUNK):
        repeated = [*request, *tokens[start : start + CHUNK]]
        listener = _Listener(count=len(repeated), prompt=len(tokens))
        ids = torch.tensor([[*tokens, *repeated]], device=device)
        with torch.no_grad(), attach(model, listener, protocol="prune_after_prefill"):
            called(input_ids=ids, use_cache=True, logits_to_keep=1)
        for layer, found in listener.found.items():
            best[layer] = torch.maximum(best[layer], found) if layer in best else found
    return tuple(best[layer] for layer in sorted(best))
