"""Where a layer's kept tokens lie: one buffer for heads of equal room, or one region per head.

Both stores hold keys, values, positions and per-slot statistics; slots of a head are in order of
position. :class:`SharedStore` gives every head the same room, so it is dense and fast, and a short
head wastes what the longest one needs. :class:`PerHeadStore` gives each head a region of its own
size in one flat buffer, so that what a head drops is really freed.

Room is made for a whole interval at a time: appending a token writes in place and copies nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

Statistics = dict[str, Tensor]


class Store(ABC):
    """Kept tokens of `rows` sequences in one layer.

    Parameters
    ----------
    keys
        (row, kv_head, 0 or more, head_dim); only its sizes, dtype and device are used.
    room
        Free slots to add whenever a head's region is (re)allocated.
    """

    def __init__(self, keys: Tensor, values: Tensor, room: int) -> None:
        self.rows, self.heads = keys.shape[:2]
        self.room = room
        self.lengths = torch.zeros(self.rows, self.heads, dtype=torch.int64)
        self.device = keys.device

    @abstractmethod
    def append(self, keys: Tensor, values: Tensor, first_position: int) -> None:
        """Add (row, kv_head, token, head_dim) at the end of every head."""

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
    def keep(self, index: Tensor, counts: Tensor) -> None:
        """Evict all but the slots `index` (row, kv_head, k), of which the first `counts` count."""

    @abstractmethod
    def select_rows(self, rows: Tensor) -> Store:
        """Return a new store with these rows, in this order (rows may repeat)."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Allocated bytes of keys, values, positions and statistics."""

    @abstractmethod
    def shares(self) -> Tensor:
        """(row,) float64: each row's part of the allocated bytes; sums to 1."""

    @property
    def lengths(self) -> Tensor:
        """(row, kv_head) int64 on the CPU: tokens held; replaced, never changed in place."""
        return self._lengths

    @lengths.setter
    def lengths(self, lengths: Tensor) -> None:
        self._lengths = lengths
        self._extent: tuple[int, bool] | None = None

    def _measured(self) -> tuple[int, bool]:
        """Width and evenness; each call asks for them many times, so they are found once."""
        if self._extent is None:
            longest = int(self._lengths.max()) if self._lengths.numel() else 0
            self._extent = longest, bool((self._lengths == longest).all())
        return self._extent

    def _lengthen(self, new: int) -> None:
        """Count `new` tokens more in every head."""
        width, even = self._measured()
        self.lengths = self._lengths + new
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

    def __init__(self, keys: Tensor, values: Tensor, room: int) -> None:
        super().__init__(keys, values, room)
        self._keys = keys.new_zeros(*keys.shape[:2], 0, keys.shape[-1])
        self._values = values.new_zeros(*values.shape[:2], 0, values.shape[-1])
        self._positions = torch.empty(
            self.rows, self.heads, 0, dtype=torch.int32, device=self.device
        )
        self._statistics: Statistics = {}

    def _grow(self, capacity: int) -> None:
        extra = capacity - self._keys.shape[2]
        if extra <= 0:
            return
        extra = -(-extra // self.room) * self.room
        self._keys = _pad_slots(self._keys, extra)
        self._values = _pad_slots(self._values, extra)
        self._positions = _pad_slots(self._positions, extra, fill=-1)

    def append(self, keys: Tensor, values: Tensor, first_position: int) -> None:
        """Write behind each head's last token; make room first."""
        new = keys.shape[2]
        positions = torch.arange(
            first_position, first_position + new, dtype=torch.int32, device=self.device
        )
        self._grow(self.width + new)
        if self.even:
            at = slice(self.width, self.width + new)
            self._keys[:, :, at], self._values[:, :, at] = keys, values
            self._positions[:, :, at] = positions
        else:
            slots = self.lengths[..., None].to(self.device) + torch.arange(new, device=self.device)
            self._positions.scatter_(2, slots, positions.expand_as(slots))
            self._keys.scatter_(2, slots[..., None].expand_as(keys), keys)
            self._values.scatter_(2, slots[..., None].expand_as(values), values)
        self._lengthen(new)

    def padded(self) -> tuple[Tensor, Tensor]:
        """Return keys and values, cut to the longest head, without a copy."""
        return self._keys[:, :, : self.width], self._values[:, :, : self.width]

    def positions(self) -> Tensor:
        """Return positions, cut to the longest head."""
        return self._positions[:, :, : self.width].long()

    def statistics(self) -> Statistics:
        """Return the statistics, new slots at zero."""
        width = self.width
        return {name: _fit_slots(value, width) for name, value in self._statistics.items()}

    def set_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Replace the statistics."""
        self._statistics = dict(statistics)

    def keep(self, index: Tensor, counts: Tensor) -> None:
        """Gather what stays into new buffers with room for one interval."""
        width = index.shape[2]
        filled = torch.arange(width, device=self.device) < counts.to(self.device)[..., None]
        self._statistics = {
            name: _gather_slots(value, index) for name, value in self.statistics().items()
        }
        self._keys = _gather_slots(self._keys, index, self.room)
        self._values = _gather_slots(self._values, index, self.room)
        positions = self._positions.gather(2, index).masked_fill_(~filled, -1)
        self._positions = _pad_slots(positions, self.room, fill=-1)
        self.lengths = counts.cpu()

    def select_rows(self, rows: Tensor) -> SharedStore:
        """Return a new store with these rows."""
        chosen = SharedStore(self._keys[:0], self._values[:0], self.room)
        on_device = rows.to(self.device)
        chosen.rows, chosen.lengths = len(rows), self.lengths[rows.cpu()]
        chosen._keys = self._keys.index_select(0, on_device)
        chosen._values = self._values.index_select(0, on_device)
        chosen._positions = self._positions.index_select(0, on_device)
        chosen._statistics = {
            name: value.index_select(0, on_device) for name, value in self._statistics.items()
        }
        return chosen

    def shares(self) -> Tensor:
        """Return each row's part of the bytes."""
        return torch.full((self.rows,), 1.0 / max(self.rows, 1), dtype=torch.float64)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, room included."""
        held = (self._keys, self._values, self._positions, *self._statistics.values())
        return sum(tensor.untyped_storage().nbytes() for tensor in held)


class PerHeadStore(Store):
    """Each head of each row owns a region of its own size in flat buffers (slot, ...)."""

    def __init__(self, keys: Tensor, values: Tensor, room: int) -> None:
        super().__init__(keys, values, room)
        self._capacity = torch.zeros(self.rows, self.heads, dtype=torch.int64)
        self._keys = keys.new_zeros(0, keys.shape[-1])
        self._values = values.new_zeros(0, values.shape[-1])
        self._positions = torch.empty(0, dtype=torch.int32, device=self.device)
        self._statistics: Statistics = {}
        self._statistics_lengths = self.lengths

    def _starts(self, sizes: Tensor) -> Tensor:
        return (sizes.flatten().cumsum(0) - sizes.flatten()).view_as(sizes)

    def _slots(self, first: Tensor, count: int) -> Tensor:
        """(row, head, count) flat slots that begin at `first` (row, head)."""
        return (first[..., None] + torch.arange(count)).to(self.device)

    def _grow(self, new: int) -> None:
        if bool((self.lengths + new <= self._capacity).all()):
            return
        needed = self.lengths + new
        capacity = torch.where(
            needed <= self._capacity, self._capacity, -(-needed // self.room) * self.room
        )
        source = _ragged(self._starts(self._capacity), self.lengths).to(self.device)
        target = _ragged(self._starts(capacity), self.lengths).to(self.device)
        total = int(capacity.sum())
        self._keys = _move(self._keys, source, target, total)
        self._values = _move(self._values, source, target, total)
        self._positions = _move(self._positions, source, target, total, fill=-1)
        self._capacity = capacity

    def append(self, keys: Tensor, values: Tensor, first_position: int) -> None:
        """Write behind each head's last token; make room first."""
        new = keys.shape[2]
        self._grow(new)
        slots = self._slots(self._starts(self._capacity) + self.lengths, new).flatten()
        self._keys[slots] = keys.reshape(-1, keys.shape[-1])
        self._values[slots] = values.reshape(-1, values.shape[-1])
        positions = torch.arange(
            first_position, first_position + new, dtype=torch.int32, device=self.device
        )
        self._positions[slots] = positions.repeat(self.rows * self.heads)
        self._lengthen(new)

    def _view(self, lengths: Tensor, starts: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Flat slots (row, head, width), clamped into each region, and which of them are filled."""
        slots = torch.arange(width)
        inside = slots < lengths[..., None]
        flat = starts[..., None] + torch.minimum(slots, (lengths[..., None] - 1).clamp(min=0))
        return flat.to(self.device), inside.to(self.device)

    def padded(self) -> tuple[Tensor, Tensor]:
        """Gather keys and values of all heads into buffers as wide as the longest."""
        flat, _ = self._view(self.lengths, self._starts(self._capacity), self.width)
        return self._keys[flat], self._values[flat]

    def positions(self) -> Tensor:
        """Gather positions as :meth:`padded` does."""
        flat, inside = self._view(self.lengths, self._starts(self._capacity), self.width)
        return self._positions[flat].masked_fill(~inside, -1).long()

    def head(self, row: int, head: int) -> tuple[Tensor, Tensor]:
        """Keys and values (slot, head_dim) of one head, without a copy."""
        start = int(self._starts(self._capacity)[row, head])
        stop = start + int(self.lengths[row, head])
        return self._keys[start:stop], self._values[start:stop]

    def statistics(self) -> Statistics:
        """Return the statistics, new slots at zero."""
        held = self._statistics_lengths
        flat, inside = self._view(held, self._starts(held), max(int(held.max()), 0))
        padded = {}
        for name, value in self._statistics.items():
            if not len(value):
                padded[name] = value.new_zeros(self.rows, self.heads, self.width, *value.shape[1:])
                continue
            mask = inside.view(*inside.shape, *[1] * (value.dim() - 1))
            padded[name] = _fit_slots(value[flat].masked_fill_(~mask, 0.0), self.width)
        return padded

    def set_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Replace the statistics."""
        filled = (torch.arange(self.width) < self.lengths[..., None]).to(self.device)
        self._statistics = {name: value[filled] for name, value in statistics.items()}
        self._statistics_lengths = self.lengths

    def keep(self, index: Tensor, counts: Tensor) -> None:
        """Gather what stays into new buffers with room for one interval."""
        counts = counts.cpu()
        width = index.shape[2]
        kept = (torch.arange(width) < counts[..., None]).to(self.device)
        source = (index + self._starts(self._capacity).to(self.device)[..., None])[kept]
        statistics = {
            name: _gather_slots(value, index)[kept] for name, value in self.statistics().items()
        }
        capacity = counts + self.room
        target = _ragged(self._starts(capacity), counts).to(self.device)
        total = int(capacity.sum())
        self._keys = _move(self._keys, source, target, total)
        self._values = _move(self._values, source, target, total)
        self._positions = _move(self._positions, source, target, total, fill=-1)
        self._capacity, self.lengths = capacity, counts
        self._statistics, self._statistics_lengths = statistics, counts

    def select_rows(self, rows: Tensor) -> PerHeadStore:
        """Return a new store with these rows."""
        rows = rows.cpu()
        chosen = PerHeadStore(
            self._keys.new_zeros(0, self.heads, 0, self._keys.shape[-1]),
            self._values.new_zeros(0, self.heads, 0, self._values.shape[-1]),
            self.room,
        )
        slots = _ragged(self._starts(self._capacity)[rows], self._capacity[rows]).to(self.device)
        chosen.rows, chosen.lengths = len(rows), self.lengths[rows]
        chosen._capacity = self._capacity[rows]
        chosen._keys, chosen._values = self._keys[slots], self._values[slots]
        chosen._positions = self._positions[slots]
        held = self._statistics_lengths
        places = _ragged(self._starts(held)[rows], held[rows]).to(self.device)
        chosen._statistics = {name: value[places] for name, value in self._statistics.items()}
        chosen._statistics_lengths = held[rows]
        return chosen

    def shares(self) -> Tensor:
        """Return each row's part of the bytes."""
        rooms = self._capacity.sum(1).double()
        return rooms / rooms.sum().clamp(min=1)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, room included."""
        held = (self._keys, self._values, self._positions, *self._statistics.values())
        return sum(tensor.untyped_storage().nbytes() for tensor in held)


def _pad_slots(tensor: Tensor, extra: int, fill: float = 0) -> Tensor:
    """Add `extra` slots at the end of axis 2."""
    shape = (*tensor.shape[:2], extra, *tensor.shape[3:])
    return torch.cat([tensor, tensor.new_full(shape, fill)], dim=2)


def _fit_slots(tensor: Tensor, width: int) -> Tensor:
    """Cut axis 2, or fill it with zeros, to `width`: newly appended slots start from nothing."""
    missing = width - tensor.shape[2]
    return _pad_slots(tensor, missing) if missing > 0 else tensor[:, :, :width]


def _gather_slots(tensor: Tensor, index: Tensor, room: int = 0) -> Tensor:
    """Take slots `index` (row, head, k) of axis 2, with `room` empty slots after them."""
    picked = index.view(*index.shape, *[1] * (tensor.dim() - 3))
    picked = picked.expand(*index.shape, *tensor.shape[3:])
    kept = tensor.gather(2, picked)
    return _pad_slots(kept, room) if room else kept


def _ragged(starts: Tensor, lengths: Tensor) -> Tensor:
    """Flat slots of all regions one after the other: (sum of lengths,)."""
    starts, lengths = starts.flatten(), lengths.flatten()
    ends = lengths.cumsum(0)
    within = torch.arange(int(lengths.sum())) - (ends - lengths).repeat_interleave(lengths)
    return starts.repeat_interleave(lengths) + within


def _move(tensor: Tensor, source: Tensor, target: Tensor, total: int, fill: float = 0) -> Tensor:
    """A new flat buffer of `total` slots holding tensor[source] at `target`."""
    out = tensor.new_full((total, *tensor.shape[1:]), fill)
    out[target] = tensor[source]
    return out
