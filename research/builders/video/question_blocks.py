"""Attention over one video that is followed by independent blocks, one for each question."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from namm_mm.memory.swapping import swapped_attention

NAME = "question_blocks"


@dataclass(frozen=True, eq=False)
class Blocks:
    """The sequence: shared tokens, then blocks of one length.

    Attributes
    ----------
    shared
        Tokens before the first block.
    length
        Tokens of a block.
    watched
        Layers whose attention weights of the blocks are recorded.
    weights
        The recorded weights, by layer: (row, head, block, `length`, `shared` + `length`).
    """

    shared: int
    length: int
    watched: frozenset[int] = frozenset()
    weights: dict[int, Tensor] = field(default_factory=dict)

    def positions(self, questions: int) -> Tensor:
        """Return (token,) positions: every block begins behind the shared tokens."""
        own = self.shared + torch.arange(self.length)
        return torch.cat([torch.arange(self.shared), own.repeat(questions)])


def question_blocks(model: Any) -> AbstractContextManager[None]:
    """Let the language model attend with :func:`block_attention` inside the ``with`` block."""
    config = model.config.get_text_config(decoder=True)
    return swapped_attention(config, NAME, block_attention)


def block_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    blocks: Blocks,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Causal attention in which a block sees the shared tokens and itself.

    It equals a block mask over the whole sequence, at less than half of the work. `query` is (row,
    head, token, channel).
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    shared = blocks.shared
    q0, k0, v0 = query[:, :, :shared], key[:, :, :shared], value[:, :, :shared]
    first, _ = _attend(q0, [(k0, v0)], scaling)
    count = (query.shape[2] - shared) // blocks.length
    q1, k1, v1 = (
        t[:, :, shared:].reshape(*t.shape[:2], count, blocks.length, -1)
        for t in (query, key, value)
    )
    then, weights = _attend(q1, [(k0[:, :, None], v0[:, :, None]), (k1, v1)], scaling)
    layer: Any = module.layer_idx
    if layer in blocks.watched:
        blocks.weights[layer] = weights
    return torch.cat([first, then.flatten(2, 3)], dim=2).transpose(1, 2).contiguous(), None


def _attend(
    query: Tensor, parts: list[tuple[Tensor, Tensor]], scaling: float
) -> tuple[Tensor, Tensor]:
    """Return output and weights of softmax attention over all parts, the last of them causal."""
    scores = [query @ key.transpose(-1, -2) for key, _ in parts]
    length = query.shape[-2]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    scores[-1] = scores[-1].masked_fill(future, float("-inf"))
    weights = (torch.cat(scores, -1) * scaling).float().softmax(-1)
    split = torch.split(weights.to(query.dtype), [key.shape[-2] for key, _ in parts], -1)
    outputs = [part @ value for part, (_, value) in zip(split, parts, strict=True)]
    return torch.stack(outputs).sum(0), weights
