"""Attention of new queries over the kept tokens of one layer, and its weights tile by tile.

No caller's mask is used. Slots are in order of position and the queries are those of the newest
tokens, so what a query may see follows from lengths alone: the ``i``-th of ``n`` new queries sees
the first ``length - n + 1 + i`` slots of each head, however many were evicted before them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from namm_mm.memory.folding import attend_by_kernel
from namm_mm.memory.store import Store
from namm_mm.memory.visibility import hide, seen_by, visibility
from namm_mm.namm.compiled import softmax_means
from namm_mm.observations.formula import Formula

MASKED = 512
"""Queries that share one mask."""

TILE = 128
"""Queries whose weights exist at one time, where fused attention cannot compute the formula."""


def attend(queries: Tensor, store: Store, formula: Formula) -> Tensor:
    """Attention output of the newest tokens; their own keys are in the store already.

    Parameters
    ----------
    queries
        (row, query_head, query, head_dim), rotary embedding applied.

    Returns
    -------
    Tensor
        (row, query_head, query, value_dim).
    """
    count = queries.shape[2]
    # Each head over exactly its own slots.
    on_host = queries.device.type == "cpu"
    if on_host and count > 1 and formula.plain and len(parts := store.split_heads(count)) > 1:
        pairs = zip(of_parts(queries, store, parts), parts, strict=True)
        found = [attend(own, part, formula) for own, part in pairs]
        return torch.cat(found, dim=1).view(*queries.shape[:3], -1)
    alone = store.even and formula.window is None and count in (1, store.width)
    if not (formula.plain and alone) and (by_kernel := attend_by_kernel(queries, store, formula)):
        return by_kernel[0]
    keys, values = store.padded()
    if not formula.plain:
        out = queries.new_empty(*queries.shape[:3], values.shape[-1])
        for _ in weights(queries, store, formula, tile=TILE, out=out):
            pass
        return out
    if alone:
        return _sdpa(queries, keys, values, None, formula.scaling, causal=count > 1)
    positions = store.positions() if formula.window is not None else None
    return _masked(queries, keys, values, store, positions, formula)


def attend_with_normaliser(
    queries: Tensor, store: Store, formula: Formula
) -> tuple[Tensor, Tensor]:
    """Attention output of the newest tokens, and the log-sum-exp of their products.

    Returns
    -------
    out : Tensor
        (row, query_head, query, value_dim).
    normaliser : Tensor
        (row, query_head, query) float32, in nats.
    """
    if found := attend_by_kernel(queries, store, formula):
        return found
    keys, values = store.padded()
    rows, heads, slots = keys.shape[:3]
    count, dim = queries.shape[2:]
    grouped = queries.view(rows, heads, -1, count, dim)
    group = grouped.shape[2]
    fused = _fused_with_normaliser(grouped, keys, values, store, formula)
    if fused is not None:
        return fused
    out = values.new_empty(rows, heads, group, count, values.shape[-1])
    normaliser = torch.empty(rows, heads, group, count, device=queries.device)
    for start in range(0, count, MASKED):
        part = range(start, min(count, start + MASKED))
        asked = grouped[:, :, :, start : part.stop].flatten(2, 3)
        products = (asked @ keys.transpose(-1, -2)).float().mul_(formula.scaling)
        products = products.view(rows, heads, group, len(part), slots)
        products = formula.cap(products)
        if count > 1 or not store.even:
            seen = visibility(part, count, store)
            products.masked_fill_(~seen[:, :, None], float("-inf"))
        total = formula.normalisers(products)
        spent = (products - total[..., None]).exp_().flatten(2, 3).to(values.dtype)
        out[:, :, :, start : part.stop] = (spent @ values).view(rows, heads, group, len(part), -1)
        normaliser[:, :, :, start : part.stop] = total
    return out.flatten(1, 2), normaliser.flatten(1, 2)


def _fused_with_normaliser(
    grouped: Tensor, keys: Tensor, values: Tensor, store: Store, formula: Formula
) -> tuple[Tensor, Tensor] | None:
    """As :func:`attend_with_normaliser`, by the fused attention of CPUs; None where it cannot.

    The queries of a group are one axis, so that no key is repeated for them.
    """
    rows, heads, group, count, dim = grouped.shape
    fits = grouped.device.type == "cpu" and formula.plain and dim == values.shape[-1]
    if not fits or count > MASKED or int(store.lengths.min()) < count:  # a query sees itself
        return None
    mask = None
    if count > 1 or not store.even:
        seen = visibility(range(count), count, store)
        hidden = torch.zeros(seen.shape, dtype=grouped.dtype).masked_fill_(~seen, float("-inf"))
        mask = hidden.repeat(1, 1, group, 1)
    out, normaliser = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        grouped.flatten(2, 3), keys, values, 0.0, False, attn_mask=mask, scale=formula.scaling
    )
    shape = (rows, heads * group, count)
    return out.reshape(*shape, dim), normaliser.reshape(shape).float()


def weights(
    queries: Tensor, store: Store, formula: Formula, *, tile: int, out: Tensor | None = None
) -> Iterator[Tensor]:
    """Attention weights of the newest tokens, a few queries at a time, mean over each query group.

    Parameters
    ----------
    out
        (row, query_head, query, value_dim): filled with the attention output, which costs one more
        product now that the weights are there.

    Yields
    ------
    Tensor
        (row, kv_head, up to `tile` queries, slot) float32; each row of weights sums to 1, or to
        less where the layer has sinks. Slots newer than the last of these queries are left out.
    """
    keys, values = store.padded()
    rows, heads, slots = keys.shape[:3]
    count, dim = queries.shape[2:]
    if exact := queries.dtype == torch.float32:  # a half would be rounded once more
        queries = queries * formula.scaling
    grouped = queries.view(rows, heads, -1, count, dim)
    filled = None if out is None else out.view(rows, heads, -1, count, values.shape[-1])
    transposed = keys.transpose(-1, -2)
    group, window = grouped.shape[2], formula.window
    even = store.even and window is None
    positions = store.positions() if window is not None else None
    # One buffer for the products of all tiles: pages of a new one cost as much as a pass over them.
    room = rows * heads * group * min(tile, count) * slots if exact and group > 1 else 0
    buffer = queries.new_empty(room)
    for start in range(0, count, tile):
        part = range(start, min(count, start + tile))
        stop = slots - count + part.stop
        # The queries of a group in one product: no key is repeated for them.
        asked = grouped[:, :, :, start : part.stop].flatten(2, 3)
        products = _products(asked, transposed[..., :stop], buffer)
        if not exact:
            products.mul_(formula.scaling)
        products = products.view(rows, heads, group, len(part), stop)
        products = formula.cap(products)
        means = softmax_means(products) if even and formula.sinks is None else None
        if means is None:
            formula.softmax(hide(products, part, count, store, positions, window))
        if filled is not None:
            mixed = products.flatten(2, 3).to(values.dtype) @ values[:, :, :stop]
            filled[:, :, :, start : part.stop] = mixed.view(rows, heads, group, len(part), -1)
        yield _mean_of_group(products) if means is None else means


def _products(asked: Tensor, keys: Tensor, buffer: Tensor) -> Tensor:
    """(row, kv_head, query, slot) float32, in `buffer` where that has room."""
    shape = (*asked.shape[:3], keys.shape[-1])
    size = math.prod(shape)
    if not size or size > buffer.numel():
        return (asked @ keys).float()
    out = buffer[:size].view(-1, *shape[2:])
    return torch.bmm(asked.flatten(0, 1), keys.flatten(0, 1), out=out).view(shape)


def _mean_of_group(weights: Tensor) -> Tensor:
    """Mean over axis 2 of few: a sum of slices takes half the time of ``mean`` on a processor."""
    group = weights.shape[2]
    if group == 1:
        return weights[:, :, 0]
    if group == 2:
        return torch.lerp(weights[:, :, 0], weights[:, :, 1], 0.5)
    if group > 4 or weights.device.type != "cpu":
        return weights.mean(2)
    total = weights[:, :, 0] + weights[:, :, 1]
    for member in range(2, group):
        total += weights[:, :, member]
    return total.mul_(1.0 / group)


def _masked(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    store: Store,
    positions: Tensor | None,
    formula: Formula,
) -> Tensor:
    """Attention under a mask, some queries at a time, so that no mask is prompt x prompt."""
    count, out = queries.shape[2], []
    for start in range(0, count, MASKED):
        part = range(start, min(count, start + MASKED))
        seen = seen_by(part, count, store, positions, formula.window)
        mask = seen.flatten(0, 1)[:, None]
        out.append(_sdpa(queries[:, :, start : part.stop], keys, values, mask, formula.scaling))
    return out[0] if len(out) == 1 else torch.cat(out, dim=2)


def _sdpa(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    scaling: float,
    *,
    causal: bool = False,
) -> Tensor:
    """Fused attention with (row x kv_head) as the batch and the query group as heads.

    Keys, values and mask then broadcast over the group without being repeated.
    """
    rows, heads, slots, dim = keys.shape
    group = queries.shape[1] // heads
    grouped = queries.reshape(rows * heads, group, *queries.shape[2:])
    shared = (rows * heads, group, slots)
    out = functional.scaled_dot_product_attention(
        grouped,
        keys.reshape(rows * heads, 1, slots, dim).expand(*shared, dim),
        values.reshape(rows * heads, 1, slots, values.shape[-1]).expand(*shared, values.shape[-1]),
        attn_mask=mask,
        is_causal=causal,
        scale=scaling,
    )
    return out.view(rows, heads * group, -1, values.shape[-1])


def of_parts(tensor: Tensor, store: Store, parts: Sequence[Store]) -> Sequence[Tensor]:
    """Cut (row, query_head, ...) as `store` was cut into `parts`; views."""
    if len(parts) == 1:
        return (tensor,)
    grouped = tensor.view(store.rows, store.heads, -1, *tensor.shape[2:])
    return [
        grouped[row : row + 1, head] for row in range(store.rows) for head in range(store.heads)
    ]
