"""Slots of tensors (row, kv_head, slot, ...): more of them, fewer, or some of them."""

from __future__ import annotations

import torch
from torch import Tensor

CALLS = 16
"""Heads up to which a call for each is faster than one for all."""

LEAST_ROOM = 16
"""Free slots to make at a time, where so many tokens come before the next eviction."""


def room_behind(held: int, left: int | None) -> int:
    """Return how many free slots to make behind `held` tokens.

    Parameters
    ----------
    left
        Tokens that still come before the next eviction; None where there is none.

    Returns
    -------
    int
        A power of two, so that rows of different sizes grow together, or `left` if it is less.
    """
    eighth = held // 8
    wanted = max(LEAST_ROOM, 1 << (eighth.bit_length() - 1) if eighth else 0)
    return wanted if left is None else min(wanted, left)


def pad_slots(tensor: Tensor, extra: int, fill: float = 0) -> Tensor:
    """Add `extra` slots at the end of axis 2."""
    shape = (*tensor.shape[:2], extra, *tensor.shape[3:])
    return torch.cat([tensor, tensor.new_full(shape, fill)], dim=2)


def fit_slots(tensor: Tensor, width: int) -> Tensor:
    """Cut axis 2, or fill it with zeros, to `width`: newly appended slots start from nothing."""
    missing = width - tensor.shape[2]
    return pad_slots(tensor, missing) if missing > 0 else tensor[:, :, :width]


def gather_slots(tensor: Tensor, index: Tensor, room: int = 0) -> Tensor:
    """Take slots `index` (row, head, k) of axis 2, with `room` empty slots after them.

    Few heads are taken one by one, in whole slots: ``gather`` has an index for each number, and
    takes 3 to 10 times as long on a processor.
    """
    rows, heads, count = index.shape
    if tensor.device.type != "cpu" or rows * heads > CALLS:
        picked = index.view(*index.shape, *[1] * (tensor.dim() - 3))
        kept = tensor.gather(2, picked.expand(*index.shape, *tensor.shape[3:]))
        return pad_slots(kept, room) if room else kept
    kept = tensor.new_empty(rows, heads, count + room, *tensor.shape[3:])
    kept[:, :, count:] = 0
    for row in range(rows):
        for head in range(heads):
            taken = kept[row, head, :count]
            torch.index_select(tensor[row, head], 0, index[row, head], out=taken)
    return kept
