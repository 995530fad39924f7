"""Watch a memory at work: what each layer kept at each update, and how it scored its tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Update:
    """One eviction in one layer, for rows that are computed together.

    The tensors are copies on the model's device: a watcher may hold them for as long as it likes.

    Attributes
    ----------
    layer
        Index of the layer.
    number
        Number of earlier updates of these rows.
    seen
        Tokens that each of these rows has processed so far.
    rows
        Their indices in the batch.
    kept
        (row, kv_head, slot) int64: positions that stay, ascending; -1 past a head's own number.
    scores
        (row, kv_head, slot) float32: the policy's scores of all tokens that were there before; NaN
        in empty slots.
    """

    layer: int
    number: int
    seen: int
    rows: tuple[int, ...]
    kept: Tensor
    scores: Tensor


Watcher = Callable[[Update], None]
"""Is told of every update, layer by layer. Without one, nothing is copied."""
