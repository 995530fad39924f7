"""The evicting KV cache as transformers sees it: logical lengths outside, kept tokens inside.

transformers makes positions and masks of the length that a cache tells. This one tells the columns
that it was given, not those that it kept, so that ``generate`` needs no change.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionLayer

from namm_mm.errors import RunError, UnsupportedError
from namm_mm.memory.layer import LayerMemory, Segment
from namm_mm.memory.layout import OTHER, Layout
from namm_mm.memory.prompt import Prompt
from namm_mm.memory.rules import Rules
from namm_mm.memory.sequences import Sequences
from namm_mm.observations.formula import Formula

# The keys that a layer has just handed over and that its attention call must now pick up.
_PENDING: ContextVar[tuple[EvictingLayer, Tensor] | None] = ContextVar("pending", default=None)

_CROP = (
    "an evicting memory cannot be cropped, as assisted decoding and prompt look-up ask for. "
    "Generate without `assistant_model` and `prompt_lookup_num_tokens`."
)

_READ = (
    "the model reads keys and values out of its cache by itself. An evicting memory shows none, so "
    "that this model cannot carry one."
)

_ROWS = (
    "the rows of a DynamicCache that stands for a memory cannot be changed. Change those of "
    "`memory.cache`, or of the `past_key_values` that the model returns."
)


class Block:
    """Whether the ``with attach(...)`` block that a cache belongs to is still open."""

    def __init__(self) -> None:
        self.open = True

    def __deepcopy__(self, memo: dict[int, Any]) -> Block:
        """A copied cache belongs to the same block."""
        return self


def take_pending(keys: Tensor) -> EvictingLayer | None:
    """Return the layer whose ``update`` was given these keys just before, once.

    Keys may have been expanded in between, token by token, to those of more heads: from a latent,
    or by repetition. The expanded ones are then stored.
    """
    pending = _PENDING.get()
    _PENDING.set(None)
    if pending is None:
        return None
    layer, given = pending
    sizes = [(len(part), part.shape[2]) for part in (keys, given)]
    expanded = sizes[0] == sizes[1] and keys.shape[1] > given.shape[1]
    return layer if given is keys or expanded else None


def forget_pending() -> None:
    """Drop keys that no attention call picked up, after an error on the way to it."""
    _PENDING.set(None)


def _refuse_reading(_layer: object) -> Tensor:
    raise UnsupportedError(_READ)


def _hold_nothing(_layer: object, _given: Tensor | None) -> None: ...


class EvictingLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Hands new keys and values to the attention call, which does the rest."""

    is_sliding = False
    is_croppable = False
    is_compileable = False
    supports_early_init = False

    def __init__(self, sequences: Sequences, memory: LayerMemory, block: Block) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sequences, self.memory, self.block = sequences, memory, block
        self.columns = 0

    keys = property(_refuse_reading, _hold_nothing)
    values = property(_refuse_reading, _hold_nothing)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: cohorts open their stores when their first tokens come."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Take new keys and values (row, kv_head, column, head_dim); return them as they are."""
        if not self.block.open:
            raise RunError(
                "this cache belongs to a `with attach(...)` block that was left: the model would "
                "run without its memory. Use the cache inside its block."
            )
        if _PENDING.get() is not None:
            _PENDING.set(None)
            raise RunError(
                f"layer {self.memory.layer} was updated, but the keys of the layer before never "
                "reached the attention function. The model computes attention in code of its own, "
                "or its attention implementation was set anew: it cannot carry an evicting memory."
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
        formula: Formula,
    ) -> Tensor:
        """Attention of one call: (row, query_head, column, head_dim) in and out.

        `padding` is (row, all columns so far) bool, False where a column is padding; padded columns
        are neither stored nor attended to and give zeros.
        """
        count, layer = keys.shape[2], self.memory.layer
        segments = self.sequences.plan(layer, keys, values, padding, self.columns)
        self.columns += count
        if len(segments) == 1 and segments[0].places is None:
            out = self._run(segments[0], queries, keys, values, formula)
        else:
            out = queries.new_zeros(*queries.shape[:3], values.shape[-1])
            for segment in segments:
                if segment.blocks and (places := segment.places):
                    at = (places[0], slice(None), places[1])
                    q, k, v = (t[at].transpose(1, 2) for t in (queries, keys, values))
                    part = self._run(segment, q, k, v, formula)
                    out[at] = part.transpose(1, 2).to(out.dtype)
        self.sequences.measure(layer)
        return out

    def _run(self, segment: Segment, q: Tensor, k: Tensor, v: Tensor, formula: Formula) -> Tensor:
        memory = self.memory.cohorts[segment.cohort]
        return self.memory.attend(memory, segment, q, k, v, formula)

    def reset(self) -> None:
        """Forget everything."""
        self.memory.cohorts.clear()
        self.columns = 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Refuse: the cache orders the rows of all layers at once."""
        raise UnsupportedError(_ROWS)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Refuse: the cache repeats the rows of all layers at once."""
        raise UnsupportedError(_ROWS)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Refuse: the cache selects the rows of all layers at once."""
        raise UnsupportedError(_ROWS)

    def crop(self, *args: Any) -> None:
        """Refuse: what was evicted cannot come back."""
        raise UnsupportedError(_CROP)


class EvictingStateLayer(LinearAttentionLayer, EvictingLayer):  # type: ignore[no-untyped-call]
    """A layer of attention beside a state of constant size, which is kept as it is."""

    is_croppable = False
    is_compileable = False
    supports_early_init = False

    def __init__(
        self, sequences: Sequences, memory: LayerMemory, block: Block, states: int
    ) -> None:
        EvictingLayer.__init__(self, sequences, memory, block)
        LinearAttentionLayer.__init__(self, number_of_states=states)

    def reset(self) -> None:
        """Forget everything."""
        LinearAttentionLayer.reset(self)
        EvictingLayer.reset(self)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Refuse: the cache orders the rows of all layers at once."""
        EvictingLayer.reorder_cache(self, beam_idx)

    def crop(self, *args: Any) -> None:
        """Refuse: what was evicted cannot come back."""
        EvictingLayer.crop(self, *args)


class EvictingCache(Cache):
    """A cache of one batch of sequences, all layers.

    Its layers know the sequences and not the cache: nothing refers back to it, so that it is freed
    with its last reference.

    Parameters
    ----------
    layout
        The cache of each layer of the model.
    rules
        Policy, interval, storage and protocol.
    block
        The ``with`` block that it belongs to.
    prompt
        Tells where a prompt ends that is pruned once.
    """

    def __init__(
        self, layout: Layout, rules: Rules, block: Block, prompt: Prompt | None = None
    ) -> None:
        sequences = Sequences(layout.attention, rules, prompt)
        memories = iter(sequences.memories)
        layers: list[Any] = []
        for kind, states in zip(layout.kinds, layout.states, strict=True):
            if kind in OTHER:
                layers.append(kind(number_of_states=states))
            elif states:
                layers.append(EvictingStateLayer(sequences, next(memories), block, states))
            else:
                layers.append(EvictingLayer(sequences, next(memories), block))
        self._take(layers)

    @classmethod
    def over(cls, layers: Sequence[Any]) -> EvictingCache:
        """Return a cache of layers that are there already, those of one cache."""
        cache = cls.__new__(cls)
        cache._take(layers)
        return cache

    def _take(self, layers: Sequence[Any]) -> None:
        first = next(layer for layer in layers if isinstance(layer, EvictingLayer))
        self.sequences, self.block = first.sequences, first.block
        super().__init__(layers=list(layers))

    def check_served(self, model: str) -> None:
        """Raise `UnsupportedError` unless every layer ran the memory's attention in each call."""
        columns = [layer.columns for layer in self.layers if isinstance(layer, EvictingLayer)]
        served = sum(count == max(columns) > 0 for count in columns)
        if served < len(columns):
            raise UnsupportedError(
                f"{model} ran {served} of its {len(columns)} layers through the memory's "
                "attention: the others would keep everything. It cannot carry an evicting memory."
            )

    @property
    def batch(self) -> int:
        """Number of rows; 0 before the first call."""
        return self.sequences.batch

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let each row continue the beam ``beam_idx`` (row,)."""
        self.sequences.take_rows(beam_idx)
        for layer in self.layers:
            if isinstance(layer, LinearAttentionLayer):
                LinearAttentionLayer.reorder_cache(layer, beam_idx)  # type: ignore[arg-type]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row `repeats` times."""
        self.reorder_cache(torch.arange(self.batch).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows `indices`, integers or a mask."""
        self.reorder_cache(torch.arange(self.batch)[indices.cpu()])

    def crop(self, *args: Any) -> None:
        """Refuse: what was evicted cannot come back."""
        raise UnsupportedError(_CROP)

    def reset(self) -> None:
        """Forget everything."""
        for layer in self.layers:
            layer.reset()
        self.sequences.reset()
