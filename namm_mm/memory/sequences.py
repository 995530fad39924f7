"""The sequences of one cache, in all layers: which rows run together, and what each row holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy, deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from namm_mm.errors import RunError, UnsupportedError
from namm_mm.memory.layer import CohortMemory, LayerMemory, Segment, cut
from namm_mm.memory.moving import send
from namm_mm.memory.prompt import Prompt
from namm_mm.memory.rules import Rules
from namm_mm.records import MemoryUse, Trace


class Sequences:
    """Rows of a batch in cohorts: rows that have seen equally many tokens are computed together.

    The layers of a cache share it, and it knows neither them nor the cache, so that a cache is
    freed with its last reference.

    Parameters
    ----------
    layers
        Number of attention layers of the model.
    rules
        Policy, interval, storage and protocol.
    prompt
        Tells where a prompt ends that is pruned once.
    """

    def __init__(self, layers: int, rules: Rules, prompt: Prompt | None = None) -> None:
        self.rules = rules
        self.prompt = prompt or Prompt()
        self.rows: list[Tensor] = []  # rows of the batch in each cohort
        self.seen: list[int] = []  # tokens that each cohort has processed
        self.unpruned: list[bool] = []  # whether the prompt of each cohort waits to be pruned
        self._reported: Sequences | None = None
        self.memories = [LayerMemory(index, layers, rules) for index in range(layers)]
        self._segments: tuple[Segment, ...] = ()
        self._served: set[int] = set()
        self._held, self._peak = torch.zeros(3, layers, 0), torch.zeros(3, 0)

    @property
    def batch(self) -> int:
        """Number of rows; 0 before the first call."""
        return sum(len(rows) for rows in self.rows)

    # -- the plan of a call ------------------------------------------------------------------

    def plan(
        self, layer: int, keys: Tensor, values: Tensor, padding: Tensor | None, before: int
    ) -> tuple[Segment, ...]:
        """Return the segments of the current call; the first layer makes them for all layers.

        `padding` is (row, all columns so far) bool, of which `before` were in earlier calls.
        """
        if not self._served or layer in self._served:
            self._segments = self._make_plan(keys, padding, before)
            self._served = set()
        self._served.add(layer)
        memory = self.memories[layer]
        while len(memory.cohorts) < len(self.rows):
            rows = len(self.rows[len(memory.cohorts)])
            memory.cohorts.append(memory.open(keys[:rows], values[:rows]))
        return self._segments

    def _make_plan(self, keys: Tensor, padding: Tensor | None, before: int) -> tuple[Segment, ...]:
        batch, count = keys.shape[0], keys.shape[2]
        if not self.rows:
            self._begin(batch)
        if batch != self.batch:
            raise UnsupportedError(
                f"the memory holds {self.batch} sequences, got a batch of {batch}. Call "
                "`memory.reset()` before another batch."
            )
        valid = _valid(self.prompt.mask_of(padding), before, count)
        if valid is not None:
            self._split(valid.sum(1))
        over, ends = self.prompt.is_over(before, count), self.prompt.ends_with(before, count)
        self._reported, segments = None, []
        for cohort, rows in enumerate(self.rows):
            own = count if valid is None else int(valid[rows[0]].sum())
            index: Tensor | None = None
            if valid is not None:
                index = valid[rows].nonzero()[:, 1].view(len(rows), own)
            elif len(self.rows) > 1:
                index = torch.arange(count).expand(len(rows), count)
            places = None
            if index is not None:
                places = send(rows[:, None], keys.device), send(index, keys.device)
            unpruned = self.unpruned[cohort]
            blocks = cut(own, self.seen[cohort], self.rules, ends=ends and unpruned)
            prune = bool(blocks) and over and unpruned and self.seen[cohort] > 0
            self.unpruned[cohort] = unpruned and not prune and not (blocks and blocks[-1].evict)
            segments.append(Segment(cohort, rows, places, self.seen[cohort], blocks, prune))
            self.seen[cohort] += own
        return tuple(segments)

    def _begin(self, batch: int) -> None:
        self.rows, self.seen = [torch.arange(batch)], [0]
        self.unpruned = [not (self.rules.streaming or self.rules.keeps_all)]
        layers = len(self.memories)
        # Allocated bytes, tokens, live bytes.
        self._held = torch.zeros(3, layers, batch, dtype=torch.float64)
        self._peak = torch.zeros(3, batch, dtype=torch.float64)

    def _split(self, new: Tensor) -> None:
        """Divide cohorts whose rows get different numbers (row,) of new tokens."""
        parts: list[tuple[int, Tensor]] = []
        for cohort, rows in enumerate(self.rows):
            for count in sorted(set(new[rows].tolist())):
                parts.append((cohort, (new[rows] == count).nonzero().flatten()))
        if len(parts) > len(self.rows):
            self._regroup(parts, [self.rows[cohort][within] for cohort, within in parts])

    def _regroup(self, parts: list[tuple[int, Tensor]], rows: list[Tensor]) -> None:
        """Make new cohorts, each from rows `within` of an old one, at `rows` of the batch."""
        for memory in self.memories:
            old = memory.cohorts
            if old:
                memory.cohorts = [old[cohort].select_rows(within) for cohort, within in parts]
        self.seen = [self.seen[cohort] for cohort, _ in parts]
        self.unpruned = [self.unpruned[cohort] for cohort, _ in parts]
        self.rows, self._reported = rows, None

    # -- rows: beam search and batches -------------------------------------------------------

    def take_rows(self, source: Tensor) -> None:
        """Make the batch anew: row ``i`` continues what row ``source[i]`` was."""
        source = source.cpu()
        parts, places = [], []
        for cohort, rows in enumerate(self.rows):
            match = source[:, None] == rows[None]
            if bool(match.any()):
                place, within = match.nonzero().unbind(1)
                parts.append((cohort, within))
                places.append(place)
        self._regroup(parts, places)
        self._held, self._peak = self._held[:, :, source], self._peak[:, source]

    def reset(self) -> None:
        """Forget everything."""
        for memory in self.memories:
            memory.cohorts.clear()
        self.rows, self.seen, self.unpruned = [], [], []
        self._segments, self._served, self._reported = (), set(), None
        self.prompt = Prompt()

    # -- the end of a prompt that is pruned once ---------------------------------------------

    def prune(self) -> None:
        """Evict now what the policy does not keep, in all layers.

        Rows that saw no token since their last eviction are left as they are.
        """
        cohorts = self.memories[0].cohorts
        new = [seen > own.evicted_at for seen, own in zip(self.seen, cohorts, strict=True)]
        self._prune_all([cohort for cohort, came in enumerate(new) if came])

    def prune_prompts(self) -> None:
        """Prune the prompts that wait for it: nothing more will come."""
        self._prune_all(self._waiting())

    def watch_no_more(self) -> None:
        """Tell no watcher of what is evicted from now on."""
        self.rules = replace(self.rules, watcher=None)
        for memory in self.memories:
            memory.rules = self.rules

    def reported(self) -> Sequences:
        """Return the sequences as they are if the prompt has ended; these are not changed."""
        waiting = self._waiting()
        if not waiting:
            return self
        if self._reported is None:
            found = copy(self)
            found._held, found.memories = self._held.clone(), []
            for layer, memory in enumerate(self.memories):
                own = deepcopy(memory)
                own.rules = replace(self.rules, watcher=None)
                found.memories.append(own)
                found._prune(layer, own, waiting)
            found.unpruned = [False] * len(self.rows)
            self._reported = found
        return self._reported

    def _waiting(self) -> list[int]:
        """Cohorts with a prompt that is not pruned yet."""
        states = zip(self.unpruned, self.seen, strict=True)
        return [cohort for cohort, (unpruned, seen) in enumerate(states) if unpruned and seen]

    def _prune_all(self, cohorts: Sequence[int]) -> None:
        for layer, memory in enumerate(self.memories):
            self._prune(layer, memory, cohorts)
        for cohort in cohorts:
            self.unpruned[cohort] = False
        self._reported = None

    def _prune(self, layer: int, memory: LayerMemory, cohorts: Iterable[int]) -> None:
        for cohort in cohorts:
            rows, own = self.rows[cohort], memory.cohorts[cohort]
            memory.evict(own, rows, self.seen[cohort])
            self._held[:, layer, rows] = own.held

    # -- what it holds -----------------------------------------------------------------------

    def measure(self, layer: int) -> None:
        """Note the sizes of `layer` after its call, and the peaks of the whole."""
        cohorts = self.memories[layer].cohorts
        if len(cohorts) == 1 and self._segments[0].blocks:  # all rows, in order
            held, high = cohorts[0].held, cohorts[0].high
        else:
            held, high = self._held[:, layer].clone(), self._held[:, layer].clone()
            for segment, memory in zip(self._segments, cohorts, strict=True):
                if segment.blocks:
                    rows = self.rows[segment.cohort]
                    held[:, rows], high[:, rows] = memory.held, memory.high
        self._held[:, layer] = held
        self._peak = torch.maximum(self._peak, self._held.sum(1) - held + high)

    def find(self, layer: int, row: int) -> tuple[CohortMemory, int]:
        """Return the memory that holds `row` in `layer`, and its place there."""
        for rows, memory in zip(self.rows, self.memories[layer].cohorts, strict=True):
            place = (rows == row).nonzero()
            if len(place):
                return memory, int(place)
        raise RunError(
            f"the memory holds no row {row}: got {row}, expected 0 to {self.batch - 1}. "
            "Run the model first."
        )

    def kept(self, layer: int, row: int) -> list[Tensor]:
        """Return the positions that each head still holds, ascending int64 on the CPU."""
        memory, place = self.find(layer, row)
        positions = memory.store.positions()[place].cpu()
        lengths: Sequence[int] = memory.store.lengths[place].tolist()
        return [head[:length] for head, length in zip(positions, lengths, strict=True)]

    def trace(self, row: int) -> Trace:
        """Return the sizes of one row after every update."""
        found = [self.find(layer, row) for layer in range(len(self.memories))]
        by_layer = [[tuple(size[at].tolist()) for size in memory.sizes] for memory, at in found]
        return Trace(
            tuple(zip(*by_layer, strict=True)),
            self.rules.policy.bytes_per_token,
            max(memory.state_bytes for memory, _ in found),
        )

    def usage(self, row: int) -> MemoryUse:
        """Return the tokens and bytes of one row."""
        found = [self.find(layer, row) for layer in range(len(self.memories))]
        kept = tuple(float(memory.held[1, at]) for memory, at in found)
        seen = next(n for n, rows in zip(self.seen, self.rows, strict=True) if row in rows.tolist())
        updated = [memory.updated[:, at] for memory, at in found if memory.sizes]
        return MemoryUse(
            seen=seen,
            updates=len(found[0][0].sizes),
            kept_by_layer=kept,
            tokens_peak=float(self._peak[1, row]) / len(kept),
            tokens_final=sum(kept) / len(kept),
            bytes_peak=int(self._peak[0, row]),
            bytes_final=int(self._held[0, :, row].sum()),
            live_peak=int(self._peak[2, row]),
            live_final=int(self._held[2, :, row].sum()),
            seen_updated=found[0][0].evicted_at if updated else None,
            tokens_updated=float(sum(one[1] for one in updated)) / len(kept) if updated else None,
            live_updated=int(sum(one[2] for one in updated)) if updated else None,
        )


def _valid(padding: Tensor | None, before: int, count: int) -> Tensor | None:
    """(row, new column) bool on the CPU: False where a column is padding; None for no padding."""
    if padding is None:
        return None
    columns = before + count
    if padding.shape[-1] != columns:
        raise UnsupportedError(
            f"attention_mask has {padding.shape[-1]} columns, expected {columns}: those "
            f"that the memory has seen and the {count} new ones."
        )
    valid = padding[:, -count:].cpu()
    return None if bool(valid.all()) else valid
