"""What the queries of the newest tokens may look at: masks that follow from lengths alone."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from namm_mm.memory.store import Store


def hide(
    products: Tensor,
    part: range,
    count: int,
    store: Store,
    positions: Tensor | None,
    window: int | None,
) -> Tensor:
    """Put minus infinity where a query does not look, in place; products of ``weights``."""
    if store.even and window is None:  # older tokens are seen by all; adding is faster than filling
        products[..., products.shape[-1] - len(part) :] += _triangle(len(part), store.device)
        return products
    seen = seen_by(part, count, store, positions, window)[..., : products.shape[-1]]
    return products.masked_fill_(~seen[:, :, None], float("-inf"))


@lru_cache(maxsize=8)
def _triangle(size: int, device: torch.device) -> Tensor:
    """(query, new token): minus infinity where the token is newer than the query, else zero."""
    return torch.full((size, size), float("-inf"), device=device).triu_(1)


def visibility(part: range, count: int, store: Store) -> Tensor:
    """(row, kv_head, query, slot) bool: what queries `part` of the `count` newest may look at.

    One for all rows and heads of an even store, so that masks are small.
    """
    asked = torch.arange(part.start, part.stop, device=store.device)
    if store.even:
        seen = (asked + (store.width - count + 1))[None, None]
    else:
        seen = (store.lengths_there - count + 1)[..., None] + asked
    return torch.arange(store.width, device=store.device) < seen[..., None]


def _inside(window: int, part: range, count: int, positions: Tensor) -> Tensor:
    """(row, kv_head, query, slot) bool: slots less than `window` positions before each query."""
    before_newest = count - 1 - torch.arange(part.start, part.stop, device=positions.device)
    queries = positions.amax(-1, keepdim=True) - before_newest
    return positions[:, :, None] > (queries - window)[..., None]


def seen_by(
    part: range,
    count: int,
    store: Store,
    positions: Tensor | None,
    window: int | None,
) -> Tensor:
    """As :func:`visibility`, in a sliding window of positions where there is one."""
    seen = visibility(part, count, store)
    if positions is None or window is None:
        return seen
    return seen & _inside(window, part, count, positions)
