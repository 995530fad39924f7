"""Attention over what each head holds, and its log-sum-exp: no mask, no gathered key.

A head's rows are the queries of its whole group, so that keys are read once for all of them. The
``i``-th of ``n`` new queries sees the first ``length - n + 1 + i`` slots, less those outside of its
window. Few queries are spread over parts of the keys, which are joined afterwards.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from namm_mm.kernels.regions import Regions
from namm_mm.observations.formula import Formula

LARGEST_HEAD = 256
PART = 256
"""Slots of a part, where queries are few."""

MOST_PARTS = 16
FEW = 64
"""Rows of a group up to which keys are cut into parts."""


UPCAST = tl.constexpr(bool(triton.knobs.runtime.interpret))
"""Triton's interpreter multiplies no bfloat16. In float32 their products are the same."""


@triton.jit
def product(a, b):  # type: ignore[no-untyped-def]
    """A matrix product, summed in float32."""
    if UPCAST:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def capped(products, softcap, SOFTCAP: tl.constexpr):  # type: ignore[no-untyped-def]
    """``softcap * tanh(products / softcap)``."""
    if SOFTCAP:
        return softcap * (2.0 * tl.sigmoid(2.0 * products / softcap) - 1.0)
    return products


# fmt: off
@triton.jit
def attention_kernel(  # type: ignore[no-untyped-def]
    q, k, v, positions, starts, lengths, out, lse, heads_rows, rows, queries, part_slots, scale,
    softcap, window, D: tl.constexpr, DV: tl.constexpr, DP: tl.constexpr, DVP: tl.constexpr, BM:
    tl.constexpr, BN: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, OUT:
    tl.constexpr,
):
    # fmt: on
    """One head, `BM` rows (query head of the group, query), one part of its slots."""
    head, part = tl.program_id(0), tl.program_id(2)
    row = tl.program_id(1) * BM + tl.arange(0, BM)
    d, dv = tl.arange(0, DP), tl.arange(0, DVP)
    start, length = tl.load(starts + head), tl.load(lengths + head).to(tl.int32)
    inside = row < rows
    query = row % queries
    last = length - queries + query  # the newest slot that it sees
    at = head.to(tl.int64) * rows + row
    asked = tl.load(
        q + at[:, None] * D + d[None, :], mask=inside[:, None] & (d[None, :] < D), other=0.0
    )
    newest = tl.load(positions + start + length - 1)
    oldest = newest - (queries - 1 - query) - window  # positions above it are seen
    highest = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    mixed = tl.zeros((BM, DVP), tl.float32)
    end = tl.minimum((part + 1) * part_slots, tl.max(tl.where(inside, last, -1)) + 1)
    for first in range(part * part_slots, end, BN):
        slot = first + tl.arange(0, BN)
        held = slot < length
        where = start + slot
        keys = tl.load(
            k + where[None, :] * D + d[:, None], mask=held[None, :] & (d[:, None] < D), other=0.0
        )
        x = capped(product(asked, keys) * scale, softcap, SOFTCAP)
        seen = slot[None, :] <= last[:, None]
        if WINDOW:
            place = tl.load(positions + where, mask=held, other=0)
            seen = seen & (place[None, :] > oldest[:, None])
        x = tl.where(seen, x, float("-inf"))
        new = tl.maximum(highest, tl.max(x, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        p = tl.exp(x - base[:, None])
        left = tl.exp(highest - base)
        total = total * left + tl.sum(p, 1)
        if OUT:
            wanted = held[:, None] & (dv[None, :] < DV)
            values = tl.load(v + where[:, None] * DV + dv[None, :], mask=wanted, other=0.0)
            mixed = mixed * left[:, None]
            mixed += product(p.to(values.dtype), values)
        highest = new
    nothing = total == 0.0
    total = tl.where(nothing, 1.0, total)
    into = part.to(tl.int64) * heads_rows + at
    tl.store(lse + into, tl.where(nothing, float("-inf"), highest + tl.log(total)), mask=inside)
    if OUT:
        tl.store(
            out + into[:, None] * DV + dv[None, :],
            mixed / total[:, None],
            mask=inside[:, None] & (dv[None, :] < DV),
        )


def attends(queries: Tensor, values: Tensor) -> bool:
    """See :class:`namm_mm.kernels.choosing.Kernels`."""
    sizes = (queries.shape[-1], values.shape[-1])
    return max(sizes) <= LARGEST_HEAD and queries.dtype == values.dtype


def attend(
    queries: Tensor, regions: Regions, formula: Formula, *, out: bool = True
) -> tuple[Tensor, Tensor]:
    """See :class:`namm_mm.kernels.choosing.Kernels`."""
    rows, query_heads, count, dim = queries.shape
    heads = len(regions.starts)
    group_rows, value_dim = rows * query_heads // heads * count, regions.values.shape[-1]
    parts = 1
    if group_rows <= FEW:
        parts = min(MOST_PARTS, triton.cdiv(regions.width, PART))
    few = group_rows <= 16
    block = (16 if few else 64, 32 if max(dim, value_dim) > 128 else 64)
    dtype = regions.values.dtype if parts == 1 else torch.float32
    shape = (parts, rows, query_heads, count)
    filled = torch.empty(*shape, value_dim if out else 0, dtype=dtype, device=queries.device)
    normaliser = torch.empty(shape, device=queries.device)
    attention_kernel[(heads, triton.cdiv(group_rows, block[0]), parts)](
        queries.contiguous(),
        regions.keys,
        regions.values,
        regions.positions,
        regions.starts,
        regions.lengths,
        filled,
        normaliser,
        heads * group_rows,
        group_rows,
        count,
        triton.cdiv(triton.cdiv(regions.width, parts), block[1]) * block[1],
        formula.scaling,
        formula.softcap or 1.0,
        formula.window or 0,
        D=dim,
        DV=value_dim,
        DP=max(16, triton.next_power_of_2(dim)),
        DVP=max(16, triton.next_power_of_2(value_dim)),
        BM=block[0],
        BN=block[1],
        WINDOW=formula.window is not None,
        SOFTCAP=formula.softcap is not None,
        OUT=out,
        num_warps=8 if out and max(dim, value_dim) > 64 else 4,  # fewer registers spill
        num_stages=2,
    )
    return _joined(filled, normaliser, regions.values.dtype, formula)


def _joined(
    filled: Tensor, normaliser: Tensor, dtype: torch.dtype, formula: Formula
) -> tuple[Tensor, Tensor]:
    """Join the parts, and let sinks take their share."""
    if len(filled) == 1 and formula.sinks is None:
        return filled[0], normaliser[0]
    total = normaliser.logsumexp(0)
    if formula.sinks is not None:
        total = total.logaddexp(formula.sinks.float()[:, None])
    share = (normaliser - total).exp_()[..., None]
    return (filled * share).sum(0).to(dtype), total
