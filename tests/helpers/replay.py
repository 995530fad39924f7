"""The oracle of the memory: full attention under a dense mask that replays what was evicted.

It shares no code with the evicting cache. A model runs its whole sequence at once with eager
attention over all keys; the only thing it is told is *when each head lost which token*, found by
running the memory on ever longer prompts and asking what is left. A memory that attends to a token
that is gone, misses one that is there, mixes up heads, rows or positions, differs from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import eager_mask

from namm_mm.memory import attach
from namm_mm.memory.swapping import swapped_attention
from namm_mm.policies.base import Policy

_NAME = "namm_replay"


def visible_after(
    model: Any, tokens: Tensor, policy: Policy, *, interval: int, storage: str
) -> Tensor:
    """What each query may see: (layer, kv_head, query, key) bool.

    Parameters
    ----------
    tokens
        (1, token) one sequence, no padding.
    """
    length = tokens.shape[1]
    visible: Tensor | None = None
    for update in range(0, length, interval):
        with attach(model, policy, interval=interval, storage=storage) as memory:
            if update:
                model(tokens[:, :update])
        for layer in range(memory.layers):
            kept = memory.kept(layer) if update else None
            heads = len(kept) if kept else _kv_heads(model)
            if visible is None:
                visible = torch.zeros(memory.layers, heads, length, length, dtype=torch.bool)
            for head in range(heads):
                stop = min(length, update + interval)
                block = torch.arange(update, stop)
                if kept:
                    visible[layer, head, block[:, None], kept[head]] = True
                visible[layer, head, block[:, None], block] = block <= block[:, None]
    if visible is None:
        raise ValueError("no tokens to replay")
    return visible


def _kv_heads(model: Any) -> int:
    config = model.config.get_text_config()
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


@contextmanager
def replay(model: Any, visible: Tensor) -> Iterator[list[Tensor]]:
    """Run `model` under the dense masks `visible`; yields each layer's attention weights.

    The list fills as the model runs: (1, kv_head, query, key) float32, mean over the query group.
    """
    seen: list[Tensor] = []

    def attention(
        module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: float, **_: Any
    ) -> tuple[Tensor, None]:
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        products = (q @ k.transpose(-1, -2)).float() * scaling
        allowed = visible[module.layer_idx].repeat_interleave(group, 0)
        weights = products.masked_fill(~allowed, float("-inf")).softmax(-1)
        seen.append(weights.view(1, -1, group, *weights.shape[2:]).mean(2))
        return (weights.to(v.dtype) @ v).transpose(1, 2), None

    with swapped_attention(model.config.get_text_config(), _NAME, attention, eager_mask):
        yield seen
