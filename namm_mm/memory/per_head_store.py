"""A store where each head of each row has a region of its own size: what it drops is freed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from namm_mm.memory.moving import send
from namm_mm.memory.ragged import (
    alike,
    moved,
    past,
    ragged,
    ragged_on_host,
    regions,
    starts_of,
    take,
)
from namm_mm.memory.slots import CALLS, fit_slots, gather_slots, room_behind
from namm_mm.memory.store import SharedStore, Statistics, Store

CALL = 500_000
"""Products of queries and keys that a processor does in about the time of one more call."""


class PerHeadStore(Store):
    """Each head of each row owns a region of its own size in flat buffers (slot, ...)."""

    _slot_axis = 0

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__(keys, values)
        self._capacity = torch.zeros(self.rows, self.heads, dtype=torch.int64)
        self._keys = keys.new_zeros(0, keys.shape[-1])
        self._values = values.new_zeros(0, values.shape[-1])
        self._positions = torch.empty(0, dtype=torch.int32, device=self.device)
        self._statistics: Statistics = {}
        self._statistics_lengths = self.lengths

    @property
    def _capacity(self) -> Tensor:
        """(row, head) int64: slots of each region."""
        return self._regions

    @_capacity.setter
    def _capacity(self, capacity: Tensor) -> None:
        self._regions, self._room_of_all = capacity, alike(capacity)
        self._starts_of_regions: Tensor | None = None

    @property
    def _starts_there(self) -> Tensor:
        """(row, head) int64 on the device: where each region begins."""
        if self._starts_of_regions is None:
            self._starts_of_regions = send(starts_of(self._capacity), self.device)
        return self._starts_of_regions

    def _regular(self) -> int:
        """Room of every head, where all are alike and hold as much: then it is one dense buffer."""
        return self._room_of_all if self.even else 0

    def _dense(self, tensor: Tensor, room: int) -> Tensor:
        return tensor.view(self.rows, self.heads, room, *tensor.shape[1:])

    def _with_room(self, held: Tensor, least: int, left: int | None) -> Tensor:
        """(row, head): `held` with free slots behind, as many for all heads of a row."""
        means = (held.sum(1) // max(self.heads, 1)).tolist()
        rooms = [max(least, room_behind(mean, left)) for mean in means]
        return held + torch.tensor(rooms, dtype=torch.int64)[:, None]

    def _grow(self, new: int, left: int | None) -> None:
        room = self._regular()
        if self.width + new <= room:
            return
        needed = self.lengths + new
        full = (needed > self._capacity).any(1, keepdim=True)  # each row on its own
        if not bool(full.any()):
            return
        capacity = torch.where(full, self._with_room(needed, 0, left), self._capacity)
        held = int(self.lengths.sum())
        source = ragged(self._starts_there, self.lengths_there, held)
        self._capacity = capacity
        target = ragged(self._starts_there, self.lengths_there, held)
        self._move(source, target)

    def _move(self, source: Tensor, target: Tensor) -> None:
        """Make new buffers for the regions, with what lay at `source` at `target`."""
        total = int(self._capacity.sum())
        self._keys = moved(self._keys, source, target, total)
        self._values = moved(self._values, source, target, total)
        self._positions = moved(self._positions, source, target, total, fill=-1)

    def append(
        self, keys: Tensor, values: Tensor, first_position: int, left: int | None = None
    ) -> None:
        """Write behind each head's last token; make room first."""
        new = keys.shape[2]
        self._grow(new, left)
        positions = torch.arange(
            first_position, first_position + new, dtype=torch.int32, device=self.device
        )
        if room := self._regular():
            at = slice(self.width, self.width + new)
            self._dense(self._keys, room)[:, :, at] = keys
            self._dense(self._values, room)[:, :, at] = values
            self._dense(self._positions, room)[:, :, at] = positions
        else:
            behind = self._starts_there + self.lengths_there
            slots = (behind[..., None] + torch.arange(new, device=self.device)).flatten()
            self._keys[slots] = keys.reshape(-1, keys.shape[-1])
            self._values[slots] = values.reshape(-1, values.shape[-1])
            self._positions[slots] = positions.repeat(self.rows * self.heads)
        self._lengthen(new)

    def _view(self, lengths: Tensor, starts: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Flat slots (row, head, width), clamped into each region, and which of them are filled."""
        slots = torch.arange(width, device=self.device)
        inside = slots < lengths[..., None]
        flat = starts[..., None] + torch.minimum(slots, (lengths[..., None] - 1).clamp(min=0))
        return flat, inside

    def _region_starts(self) -> Tensor:
        return self._starts_there.flatten()

    def padded(self) -> tuple[Tensor, Tensor]:
        """Gather keys and values of all heads into buffers as wide as the longest.

        Heads that are all alike need no copy.
        """
        if room := self._regular():
            keys, values = self._dense(self._keys, room), self._dense(self._values, room)
            return keys[:, :, : self.width], values[:, :, : self.width]
        flat, _ = self._view(self.lengths_there, self._starts_there, self.width)
        return take(self._keys, flat), take(self._values, flat)

    def positions(self) -> Tensor:
        """Gather positions as :meth:`padded` does."""
        if room := self._regular():
            return self._dense(self._positions, room)[:, :, : self.width].long()
        flat, inside = self._view(self.lengths_there, self._starts_there, self.width)
        return take(self._positions, flat).masked_fill_(~inside, -1).long()

    def split_heads(self, queries: int) -> Sequence[Store]:
        """One store for each head of each row, row by row: views without a copy, none padded.

        A call for each head takes longer than to work on padding where heads are many, nearly alike
        or small, or queries are few.
        """
        heads = self.rows * self.heads
        padding = heads * self.width - int(self.lengths.sum())
        small = queries * padding * self._keys.shape[-1] <= CALL * heads
        if small and self.unread is None:
            return (self,)
        held = regions(starts_of(self._capacity), self.lengths)
        observed = self._statistics_lengths
        parts = [
            SharedStore.over(
                self._keys[slots],
                self._values[slots],
                self._positions[slots],
                {name: value[seen] for name, value in self._statistics.items()},
            )
            for slots, seen in zip(held, regions(starts_of(observed), observed), strict=True)
        ]
        if self.unread is not None:
            for part, unread in zip(parts, self.unread.tolist() * self.rows, strict=True):
                part.observed = not unread
        return parts

    def join_statistics(self, parts: Sequence[Store]) -> None:
        """Take over their statistics, one head's after the other's."""
        if parts[0] is self:
            return
        found = [part.statistics() for part in parts if part.observed]
        self._statistics = {
            name: torch.cat([one[name][0, 0] for one in found]) for name in (found or [{}])[0]
        }
        self._statistics_lengths = self._read()

    def _read(self) -> Tensor:
        """(row, head): tokens whose statistics somebody reads."""
        return self.lengths if self.unread is None else self.lengths.masked_fill(self.unread, 0)

    def statistics(self) -> Statistics:
        """Return the statistics, new slots at zero."""
        held = self._statistics_lengths
        if room := alike(held):
            return {
                name: fit_slots(self._dense(value, room), self.width)
                for name, value in self._statistics.items()
            }
        there = self._sent(held)
        flat, inside = self._view(there, starts_of(there), max(int(held.max()), 0))
        padded = {}
        for name, value in self._statistics.items():
            if not len(value):
                padded[name] = value.new_zeros(self.rows, self.heads, self.width, *value.shape[1:])
                continue
            mask = inside.view(*inside.shape, *[1] * (value.dim() - 1))
            flat = flat.clamp_max(len(value) - 1)  # the last heads may hold none
            padded[name] = fit_slots(take(value, flat).masked_fill_(~mask, 0.0), self.width)
        return padded

    def set_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Replace the statistics."""
        if self.even:
            self._statistics = {name: value.flatten(0, 2) for name, value in statistics.items()}
        else:
            within = self._within(self.width, self.lengths)
            self._statistics = {
                name: take(value.flatten(0, 2), within) for name, value in statistics.items()
            }
        self._statistics_lengths = self.lengths

    def _sent(self, lengths: Tensor) -> Tensor:
        """Return `lengths` (row, head) of the CPU on the device."""
        return self.lengths_there if lengths is self.lengths else send(lengths, self.device)

    def _within(self, width: int, lengths: Tensor) -> Tensor:
        """Where the first `lengths` (row, head) slots lie in a flattened (row, head, `width`)."""
        starts = torch.arange(lengths.numel(), device=self.device).view_as(lengths) * width
        return ragged(starts, self._sent(lengths), int(lengths.sum()))

    def keep(self, index: Tensor, counts: Tensor, coming: int = 0, left: int | None = None) -> None:
        """Gather what stays into new buffers with room behind it."""
        if self.device.type == "cpu" and self.rows * self.heads <= CALLS:
            self._keep_by_head(index, counts, coming, left)
            return
        held, old = self.statistics(), self._starts_there
        self.lengths = counts
        width = index.shape[2]
        kept, read = self._within(width, counts), self._within(width, self._read())
        self._statistics = {
            name: take(gather_slots(value, index).flatten(0, 2), read)
            for name, value in held.items()
        }
        self._statistics_lengths = self._read()
        source = take((index + old[..., None]).flatten(), kept)
        self._capacity = self._with_room(counts, coming, left)
        target = ragged(self._starts_there, self.lengths_there, len(kept))
        self._move(source, target)

    def _keep_by_head(self, index: Tensor, counts: Tensor, coming: int, left: int | None) -> None:
        """As :meth:`keep`, a head at a time: no number is moved twice, and none is padded."""
        old, seen = self._starts_there.flatten().tolist(), self._statistics_lengths
        past_of, held = starts_of(seen).flatten().tolist(), seen.flatten().tolist()
        self.lengths = counts
        sizes, read = (lengths.flatten().tolist() for lengths in (counts, self._read()))
        self._capacity = self._with_room(counts, coming, left)
        new = self._starts_there.flatten().tolist()
        ends = self._capacity.flatten().cumsum(0).tolist()
        slots = [one[:size] for one, size in zip(index.flatten(0, 1), sizes, strict=True)]
        for name, fill in (("_keys", 0), ("_values", 0), ("_positions", -1)):
            buffer: Tensor = getattr(self, name)
            fresh = buffer.new_empty(int(self._capacity.sum()), *buffer.shape[1:])
            for start, to, end, chosen in zip(old, new, ends, slots, strict=True):
                behind = to + len(chosen)
                torch.index_select(buffer[start:], 0, chosen, out=fresh[to:behind])
                fresh[behind:end] = fill
            setattr(self, name, fresh)
        for name, value in self._statistics.items():
            parts = [
                past(value[start : start + size], chosen[:wanted])
                for start, size, chosen, wanted in zip(past_of, held, slots, read, strict=True)
            ]
            self._statistics[name] = torch.cat(parts)
        self._statistics_lengths = self._read()

    def select_rows(self, rows: Tensor) -> PerHeadStore:
        """Return a new store with these rows."""
        rows = rows.cpu()
        chosen = PerHeadStore(
            self._keys.new_zeros(0, self.heads, 0, self._keys.shape[-1]),
            self._values.new_zeros(0, self.heads, 0, self._values.shape[-1]),
        )
        slots = ragged_on_host(starts_of(self._capacity)[rows], self._capacity[rows])
        slots = send(slots, self.device)
        chosen.rows, chosen.lengths = len(rows), self.lengths[rows]
        chosen._capacity = self._capacity[rows]
        chosen._keys, chosen._values = take(self._keys, slots), take(self._values, slots)
        chosen._positions = take(self._positions, slots)
        held = self._statistics_lengths
        places = send(ragged_on_host(starts_of(held)[rows], held[rows]), self.device)
        chosen._statistics = {name: take(value, places) for name, value in self._statistics.items()}
        chosen._statistics_lengths, chosen.unread = held[rows], self.unread
        return chosen

    def shares(self) -> Tensor | float:
        """Return each row's part of the bytes."""
        if self._room_of_all:
            return 1.0 / self.rows
        rooms = self._capacity.sum(1).double()
        return rooms / rooms.sum().clamp(min=1)
