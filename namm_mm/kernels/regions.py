"""Where the tokens of each head lie, for kernels: no key is gathered for them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Regions:
    """The tokens of all heads in flat buffers; a head's are in one piece, the oldest first.

    Attributes
    ----------
    keys, values
        (slot, head_dim), contiguous.
    positions
        (slot,) int32: index of each token in its row.
    starts, lengths
        (row x kv_head,) int64 on the device: first slot of each head, and the tokens it holds.
    width
        The largest of the lengths.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    starts: Tensor
    lengths: Tensor
    width: int
