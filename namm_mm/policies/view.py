"""What a policy sees of one layer, right before an eviction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LayerView:
    """One layer's cache as a policy sees it, right before an eviction.

    Slots of a head are in order of position, oldest first, at the front of the slot axis; empty
    slots follow and hold position -1. Whatever a policy scores there is ignored.

    Attributes
    ----------
    layer, layers
        Index of this layer and the number of layers.
    keys, values
        (row, kv_head, slot, head_dim), in the model's dtype, rotary embedding applied.
    positions
        (row, kv_head, slot) int64: index of the token in its row, padding not counted.
    lengths
        (row, kv_head) int64 on the same device: number of filled slots.
    seen
        Tokens that these rows have processed so far; the newest has position ``seen - 1``.
    statistics
        What the policy's observation tells, under the observation's name. Each observation says
        the shape; the first axis is the row.
    rows
        Which rows of the batch these are: rows that have seen different numbers of tokens are
        scored separately. Empty where nobody said so.
    limits
        (row, kv_head) int64: how many tokens will stay at most; where heads share a size, their
        mean. None where the rule of selection names no size.
    losing
        (row, kv_head) bool: heads that hold more tokens than will stay. What is scored in the
        others is not read. None where only the scores tell.
    """

    layer: int
    layers: int
    keys: Tensor
    values: Tensor
    positions: Tensor
    lengths: Tensor
    seen: int
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    limits: Tensor | None = None
    losing: Tensor | None = None

    @property
    def filled(self) -> Tensor:
        """(row, kv_head, slot) bool: slots that hold a token."""
        import torch

        slots = torch.arange(self.positions.shape[-1], device=self.positions.device)
        return slots < self.lengths[..., None]

    @property
    def age(self) -> Tensor:
        """(row, kv_head, slot) int64: how many tokens came after this one."""
        return (self.seen - 1) - self.positions
