"""Where a layer's kept tokens lie: one buffer for heads of equal room, or one region per head.

Both stores hold keys, values, positions and per-slot statistics; slots of a head are in order of
position. :class:`SharedStore` gives every head the same room, so it is dense and fast, and a short
head wastes what the longest one needs. :class:`~namm_mm.memory.per_head_store.PerHeadStore` gives
each head a region of its own size in one flat buffer, so that what a head drops is really freed.

Room is made for an eighth more tokens than are held, but never for more than come before the next
eviction: most tokens are written in place, and a long interval costs nothing by itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from namm_mm.kernels import Regions
from namm_mm.memory.moving import send
from namm_mm.memory.slots import fit_slots, gather_slots, pad_slots, room_behind

Statistics = dict[str, Tensor]


class Store(ABC):
    """Kept tokens of `rows` sequences in one layer.

    Parameters
    ----------
    keys
        (row, kv_head, 0 or more, head_dim); only its sizes, dtype and device are used.
    """

    observed = True  # whether somebody reads the statistics
    unread: Tensor | None = None  # (kv_head,) bool on the CPU: heads of which nobody reads them
    _slot_axis: ClassVar[int]  # of all buffers
    _keys: Tensor
    _values: Tensor
    _positions: Tensor
    _statistics: Statistics

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.rows, self.heads = keys.shape[:2]
        self.lengths = torch.zeros(self.rows, self.heads, dtype=torch.int64)
        self.device = keys.device

    @abstractmethod
    def append(
        self, keys: Tensor, values: Tensor, first_position: int, left: int | None = None
    ) -> None:
        """Add (row, kv_head, token, head_dim) at the end of every head.

        `left` is the number of tokens that come after these before the next eviction, None where
        there is none: room is made for some of them.
        """

    @abstractmethod
    def padded(self) -> tuple[Tensor, Tensor]:
        """Keys and values: (row, kv_head, slot, head_dim).

        `slot` is the longest head's length; past a head's own length lies what is arbitrary but
        finite.
        """

    @abstractmethod
    def positions(self) -> Tensor:
        """(row, kv_head, slot) int64: index of each token in its row; -1 in empty slots."""

    @abstractmethod
    def statistics(self) -> Statistics:
        """Per-slot statistics, each (row, kv_head, slot, ...), with the slots of :meth:`padded`."""

    @abstractmethod
    def set_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Replace the statistics; shapes as :meth:`statistics` gives them."""

    @abstractmethod
    def keep(self, index: Tensor, counts: Tensor, coming: int = 0, left: int | None = None) -> None:
        """Evict all but the slots `index` (row, kv_head, k), of which the first `counts` count.

        `counts` (row, kv_head) is on the CPU.
        `coming` tokens are appended next; `left` come before the next eviction, None where there is
        none.
        """

    @abstractmethod
    def select_rows(self, rows: Tensor) -> Store:
        """Return a new store with these rows, in this order (rows may repeat)."""

    @abstractmethod
    def split_heads(self, queries: int) -> Sequence[Store]:
        """Stores to attend over one by one; this one, if that is faster for so many queries."""

    @abstractmethod
    def join_statistics(self, parts: Sequence[Store]) -> None:
        """Take over what was observed in the stores of :meth:`split_heads`."""

    @abstractmethod
    def _region_starts(self) -> Tensor:
        """(row x head,) int64 on the device: first slot of each head in flattened buffers."""

    def regions(self) -> Regions:
        """Where the tokens of each head lie; without a copy."""
        axis = self._slot_axis
        keys, values = self._keys.flatten(0, axis), self._values.flatten(0, axis)
        places = self._positions.flatten()
        starts, lengths = self._region_starts(), self.lengths_there.flatten()
        return Regions(keys, values, places, starts, lengths, self.width)

    @property
    def nbytes(self) -> int:
        """Allocated bytes of keys, values, positions and statistics, room included."""
        held = (self._keys, self._values, self._positions, *self._statistics.values())
        return sum(buffer.untyped_storage().nbytes() for buffer in held)

    @property
    def slot_nbytes(self) -> int:
        """Bytes of one token in one head: key, value and position."""
        held = (self._keys, self._values, self._positions)
        return sum(b.element_size() * math.prod(b.shape[self._slot_axis + 1 :]) for b in held)

    @property
    def statistics_nbytes(self) -> int:
        """Bytes of the statistics of all tokens that were observed so far."""
        return sum(part.numel() * part.element_size() for part in self._statistics.values())

    @abstractmethod
    def shares(self) -> Tensor | float:
        """(row,) float64: each row's part of the bytes; one number where all are alike."""

    @property
    def lengths(self) -> Tensor:
        """(row, kv_head) int64 on the CPU: tokens held; replaced, never changed in place."""
        return self._lengths

    @lengths.setter
    def lengths(self, lengths: Tensor) -> None:
        self._lengths = lengths
        self._there: Tensor | None = None
        self._extent: tuple[int, bool] | None = None

    @property
    def lengths_there(self) -> Tensor:
        """(row, kv_head) int64 on the store's device: tokens held."""
        if self._there is None:
            self._there = send(self._lengths, self.device)
        return self._there

    def _measured(self) -> tuple[int, bool]:
        """Width and evenness; each call asks for them many times, so they are found once."""
        if self._extent is None:
            longest = int(self._lengths.max()) if self._lengths.numel() else 0
            self._extent = longest, bool((self._lengths == longest).all())
        return self._extent

    def _lengthen(self, new: int) -> None:
        """Count `new` tokens more in every head."""
        width, even = self._measured()
        there = self._there
        self.lengths = self._lengths + new
        if there is not None and self.device.type != "cpu":
            self._there = there + new
        self._extent = width + new if self._lengths.numel() else 0, even

    @property
    def width(self) -> int:
        """Length of the longest head."""
        return self._measured()[0]

    @property
    def even(self) -> bool:
        """Whether all heads of all rows hold the same number of tokens."""
        return self._measured()[1]


class SharedStore(Store):
    """All heads share one capacity: buffers are (row, kv_head, capacity, ...)."""

    _slot_axis = 2

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__(keys, values)
        self._keys = keys.new_zeros(*keys.shape[:2], 0, keys.shape[-1])
        self._values = values.new_zeros(*values.shape[:2], 0, values.shape[-1])
        self._positions = torch.empty(
            self.rows, self.heads, 0, dtype=torch.int32, device=self.device
        )
        self._statistics: Statistics = {}

    @classmethod
    def over(
        cls, keys: Tensor, values: Tensor, positions: Tensor, statistics: Statistics
    ) -> SharedStore:
        """Put one head's tokens, (slot, ...), into a store, without a copy."""
        store = cls(keys[None, None, :0], values[None, None, :0])
        store._keys, store._values = keys[None, None], values[None, None]
        store._positions = positions[None, None]
        store._statistics = {name: value[None, None] for name, value in statistics.items()}
        store.lengths = torch.tensor([[len(keys)]])
        return store

    def _grow(self, needed: int, left: int | None) -> None:
        missing = needed - self._keys.shape[2]
        if missing <= 0:
            return
        extra = missing + room_behind(needed, left)
        self._keys = pad_slots(self._keys, extra)
        self._values = pad_slots(self._values, extra)
        self._positions = pad_slots(self._positions, extra, fill=-1)

    def append(
        self, keys: Tensor, values: Tensor, first_position: int, left: int | None = None
    ) -> None:
        """Write behind each head's last token; make room first."""
        new = keys.shape[2]
        positions = torch.arange(
            first_position, first_position + new, dtype=torch.int32, device=self.device
        )
        self._grow(self.width + new, left)
        if self.even:
            at = slice(self.width, self.width + new)
            self._keys[:, :, at], self._values[:, :, at] = keys, values
            self._positions[:, :, at] = positions
        else:
            slots = self.lengths_there[..., None] + torch.arange(new, device=self.device)
            self._positions.scatter_(2, slots, positions.expand_as(slots))
            self._keys.scatter_(2, slots[..., None].expand_as(keys), keys)
            self._values.scatter_(2, slots[..., None].expand_as(values), values)
        self._lengthen(new)

    def _region_starts(self) -> Tensor:
        heads = torch.arange(self.rows * self.heads, device=self.device)
        return heads * self._keys.shape[2]

    def padded(self) -> tuple[Tensor, Tensor]:
        """Return keys and values, cut to the longest head, without a copy."""
        return self._keys[:, :, : self.width], self._values[:, :, : self.width]

    def positions(self) -> Tensor:
        """Return positions, cut to the longest head."""
        return self._positions[:, :, : self.width].long()

    def statistics(self) -> Statistics:
        """Return the statistics, new slots at zero."""
        width = self.width
        return {name: fit_slots(value, width) for name, value in self._statistics.items()}

    def set_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Replace the statistics."""
        self._statistics = dict(statistics)

    def keep(self, index: Tensor, counts: Tensor, coming: int = 0, left: int | None = None) -> None:
        """Gather what stays into new buffers with room behind it."""
        width = index.shape[2]
        room = max(coming, room_behind(width, left))
        self._statistics = {
            name: gather_slots(value, index) for name, value in self.statistics().items()
        }
        self.lengths = counts
        filled = torch.arange(width, device=self.device) < self.lengths_there[..., None]
        if not self.even:  # where a shorter row goes on, new tokens begin without a past
            for value in self._statistics.values():
                beyond = ~filled.view(*filled.shape, *[1] * (value.dim() - filled.dim()))
                value.masked_fill_(beyond, 0)
        self._keys = gather_slots(self._keys, index, room)
        self._values = gather_slots(self._values, index, room)
        positions = self._positions.gather(2, index).masked_fill_(~filled, -1)
        self._positions = pad_slots(positions, room, fill=-1)

    def select_rows(self, rows: Tensor) -> SharedStore:
        """Return a new store with these rows."""
        chosen = SharedStore(self._keys[:0], self._values[:0])
        on_device = send(rows, self.device)
        chosen.rows, chosen.lengths = len(rows), self.lengths[rows.cpu()]
        chosen._keys = self._keys.index_select(0, on_device)
        chosen._values = self._values.index_select(0, on_device)
        chosen._positions = self._positions.index_select(0, on_device)
        chosen._statistics = {
            name: value.index_select(0, on_device) for name, value in self._statistics.items()
        }
        return chosen

    def split_heads(self, queries: int) -> Sequence[Store]:
        """Return itself: all heads lie in one buffer."""
        return (self,)

    def join_statistics(self, parts: Sequence[Store]) -> None:
        """Do nothing: the only part is this store."""

    def shares(self) -> float:
        """Return the same for all."""
        return 1.0 / max(self.rows, 1)
