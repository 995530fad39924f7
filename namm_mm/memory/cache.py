"""The evicting KV cache as transformers sees it: logical lengths outside, kept tokens inside.

transformers asks a cache how long the sequence is, to make positions and masks. This cache answers
with the number of columns that it was given, not with what it kept, so that positions, rotary
embeddings and ``generate`` need no change.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from namm_mm.errors import RunError, UnsupportedError
from namm_mm.memory.layer import CohortMemory, LayerMemory, Rules, Segment, cut
from namm_mm.records import MemoryUse, Trace

# The keys that a layer has just handed over and that its attention call must now pick up.
_PENDING: ContextVar[tuple[EvictingLayer, Tensor] | None] = ContextVar("pending", default=None)

_CROP = (
    "an evicting memory cannot be cropped, as assisted decoding and prompt look-up ask for. "
    "Generate without `assistant_model` and `prompt_lookup_num_tokens`."
)


def take_pending(keys: Tensor) -> EvictingLayer | None:
    """Return the layer whose ``update`` was given exactly these keys, once."""
    pending = _PENDING.get()
    _PENDING.set(None)
    return pending[0] if pending is not None and pending[1] is keys else None


def forget_pending() -> None:
    """Drop keys that no attention call picked up, after an error on the way to it."""
    _PENDING.set(None)


class EvictingLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Hands new keys and values to the attention call, which does the rest."""

    is_sliding = False
    is_croppable = False
    is_compileable = False
    supports_early_init = False

    def __init__(self, cache: EvictingCache, memory: LayerMemory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache, self.memory = cache, memory
        self.columns = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: cohorts open their stores when their first tokens come."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Take new keys and values (row, kv_head, column, head_dim); return them as they are."""
        if _PENDING.get() is not None:
            _PENDING.set(None)
            raise RunError(
                f"layer {self.memory.layer} was updated, but the keys of the layer before never "
                "reached the attention function. The model copies or skips them; it cannot carry "
                "an evicting memory."
            )
        _PENDING.set((self, key_states))
        self.is_initialized = True
        return key_states, value_states

    def get_seq_length(self) -> int:
        """Columns seen so far, padding included."""
        return self.columns

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Logical length and offset of the keys."""
        return self.columns + query_length, 0

    def get_max_length(self) -> int:
        """No limit."""
        return -1

    def attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        padding: Tensor | None,
        scaling: float,
        window: int | None,
    ) -> Tensor:
        """Attention of one call: (row, query_head, column, head_dim) in and out.

        `padding` is (row, all columns so far) bool, False where a column is padding; padded columns
        are neither stored nor attended to and give zeros.
        """
        count = keys.shape[2]
        segments = self.cache.plan(self.memory.layer, keys, values, padding)
        self.columns += count
        if len(segments) == 1 and segments[0].columns is None:
            out = self._run(segments[0], queries, keys, values, scaling, window)
        else:
            out = queries.new_zeros(*queries.shape[:3], values.shape[-1])
            for segment in segments:
                if segment.blocks:
                    at = (segment.rows[:, None], slice(None), segment.columns)
                    q, k, v = (t[at].transpose(1, 2) for t in (queries, keys, values))
                    part = self._run(segment, q, k, v, scaling, window)
                    out[at] = part.transpose(1, 2).to(out.dtype)
        self.cache.measure(self.memory.layer)
        return out

    def _run(
        self, segment: Segment, q: Tensor, k: Tensor, v: Tensor, s: float, w: int | None
    ) -> Tensor:
        memory = self.memory.cohorts[segment.cohort]
        return self.memory.attend(memory, segment, q, k, v, s, w)

    def reset(self) -> None:
        """Forget everything."""
        self.memory.cohorts.clear()
        self.columns = 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Done by the cache for all layers at once."""

    def crop(self, *args: Any) -> None:
        """Refuse: what was evicted cannot come back."""
        raise UnsupportedError(_CROP)


class EvictingCache(Cache):
    """A cache of one batch of sequences, all layers.

    Parameters
    ----------
    layers
        Number of attention layers of the model.
    rules
        Policy, interval, storage and protocol.
    """

    def __init__(self, layers: int, rules: Rules) -> None:
        self.rules = rules
        self.rows: list[Tensor] = []  # rows of the batch in each cohort
        self.seen: list[int] = []  # tokens that each cohort has processed
        self._segments: tuple[Segment, ...] = ()
        self._served: set[int] = set()
        self._held, self._peak = torch.zeros(2, layers, 0), torch.zeros(2, 0)
        self.memories = [LayerMemory(index, layers, rules) for index in range(layers)]
        super().__init__(layers=[EvictingLayer(self, memory) for memory in self.memories])

    @property
    def batch(self) -> int:
        """Number of rows; 0 before the first call."""
        return sum(len(rows) for rows in self.rows)

    # -- the plan of a call ------------------------------------------------------------------

    def plan(
        self, layer: int, keys: Tensor, values: Tensor, padding: Tensor | None
    ) -> tuple[Segment, ...]:
        """Segments of the current call; made by the first layer, shared by the others."""
        if not self._served or layer in self._served:
            self._segments = self._make_plan(keys, padding)
            self._served = set()
        self._served.add(layer)
        memory = self.memories[layer]
        while len(memory.cohorts) < len(self.rows):
            rows = len(self.rows[len(memory.cohorts)])
            memory.cohorts.append(memory.open(keys[:rows], values[:rows]))
        return self._segments

    def _make_plan(self, keys: Tensor, padding: Tensor | None) -> tuple[Segment, ...]:
        batch, count = keys.shape[0], keys.shape[2]
        if not self.rows:
            self._begin(batch)
        if batch != self.batch:
            raise UnsupportedError(
                f"the memory holds {self.batch} sequences, got a batch of {batch}. Call "
                "`memory.reset()` before another batch."
            )
        columns = self.get_seq_length() + count
        valid = None
        if padding is not None:
            if padding.shape[-1] != columns:
                raise UnsupportedError(
                    f"attention_mask has {padding.shape[-1]} columns, expected {columns}: those "
                    f"that the memory has seen and the {count} new ones."
                )
            valid = padding[:, -count:].cpu()
            valid = None if bool(valid.all()) else valid
        if valid is not None:
            self._split(valid.sum(1))
        segments = []
        for cohort, rows in enumerate(self.rows):
            own = count if valid is None else int(valid[rows[0]].sum())
            index: Tensor | None = None
            if valid is not None:
                index = valid[rows].nonzero()[:, 1].view(len(rows), own)
            elif len(self.rows) > 1:
                index = torch.arange(count).expand(len(rows), count)
            index = index if index is None else index.to(keys.device)
            blocks = cut(own, self.seen[cohort], self.rules)
            rows = rows.to(keys.device)
            segments.append(Segment(cohort, rows, index, self.seen[cohort], blocks))
            self.seen[cohort] += own
        return tuple(segments)

    def _begin(self, batch: int) -> None:
        self.rows, self.seen = [torch.arange(batch)], [0]
        layers = len(self.layers)
        self._held = torch.zeros(2, layers, batch, dtype=torch.float64)  # bytes, tokens
        self._peak = torch.zeros(2, batch, dtype=torch.float64)

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
        self.rows = rows

    # -- rows: beam search and batches -------------------------------------------------------

    def _take_rows(self, source: Tensor) -> None:
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

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let each row continue the beam ``beam_idx`` (row,)."""
        self._take_rows(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row `repeats` times."""
        self._take_rows(torch.arange(self.batch).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows `indices`, integers or a mask."""
        self._take_rows(torch.arange(self.batch)[indices.cpu()])

    def crop(self, *args: Any) -> None:
        """Refuse: what was evicted cannot come back."""
        raise UnsupportedError(_CROP)

    def reset(self) -> None:
        """Forget everything."""
        for layer in self.layers:
            layer.reset()
        self.rows, self.seen = [], []
        self._segments, self._served = (), set()

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
        """Positions that each head of `layer` still holds, ascending int64 on the CPU."""
        memory, place = self.find(layer, row)
        positions = memory.store.positions()[place].cpu()
        lengths: Sequence[int] = memory.store.lengths[place].tolist()
        return [head[:length] for head, length in zip(positions, lengths, strict=True)]

    def trace(self, row: int) -> Trace:
        """Sizes after every update."""
        found = [self.find(layer, row) for layer in range(len(self.layers))]
        by_layer = [[tuple(size[at].tolist()) for size in memory.sizes] for memory, at in found]
        needs = self.rules.policy.needs
        numbers = needs.numbers_per_token if needs is not None else 0
        return Trace(tuple(zip(*by_layer, strict=True)), numbers)

    def usage(self, row: int) -> MemoryUse:
        """Tokens and bytes of one row."""
        found = [self.find(layer, row) for layer in range(len(self.layers))]
        kept = tuple(float(memory.held[1, at]) for memory, at in found)
        seen = next(n for n, rows in zip(self.seen, self.rows, strict=True) if row in rows.tolist())
        return MemoryUse(
            seen=seen,
            updates=len(found[0][0].sizes),
            kept_by_layer=kept,
            tokens_peak=float(self._peak[1, row]) / len(kept),
            tokens_final=sum(kept) / len(kept),
            bytes_peak=int(self._peak[0, row]),
            bytes_final=int(self._held[0, :, row].sum()),
        )
