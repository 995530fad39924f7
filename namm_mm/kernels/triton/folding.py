"""Attention weights, made again from the log-sum-exp, and what is folded of them.

A program has one head and a block of its slots, goes over the queries, and holds the state of its
slots in registers: no weight is written to memory.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from namm_mm.kernels.regions import Regions
from namm_mm.kernels.triton.attention import capped, product
from namm_mm.namm.spectrogram import Spectrogram, transform
from namm_mm.observations.base import State, WeightsObservation
from namm_mm.observations.column_maxima import ColumnMaxima
from namm_mm.observations.column_sums import ColumnSums
from namm_mm.observations.decayed_sums import DecayedSums
from namm_mm.observations.formula import Formula
from namm_mm.observations.spectrogram import SpectrogramOf

COLUMNS: dict[type, int] = {ColumnSums: 0, ColumnMaxima: 1, DecayedSums: 2}
"""How :func:`columns_kernel` merges, for each observation."""

QUERIES = 16
"""Queries whose weights exist at one time in a program."""


# fmt: off
@triton.jit
def mean_weights(  # type: ignore[no-untyped-def]
    q, lse, keys, place, slot, head, first, length, count, newest, scale, softcap, window, G:
    tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BQ: tl.constexpr, BN: tl.constexpr, WINDOW:
    tl.constexpr, SOFTCAP: tl.constexpr,
):
    # fmt: on
    """(query, slot) float32: weights of `BQ` queries from `first`, mean over the group."""
    query, d = first + tl.arange(0, BQ), tl.arange(0, DP)
    inside = query < count
    seen = (slot[None, :] <= (length - count + query)[:, None]) & inside[:, None]
    if WINDOW:
        seen = seen & (place[None, :] > (newest - (count - 1 - query) - window)[:, None])
    found = tl.zeros((BQ, BN), tl.float32)
    for g in range(G):
        row = (head.to(tl.int64) * G + g) * count + query
        asked = tl.load(
            q + row[:, None] * D + d[None, :], mask=inside[:, None] & (d[None, :] < D), other=0.0
        )
        x = capped(product(asked, keys) * scale, softcap, SOFTCAP)
        total = tl.load(lse + row, mask=inside, other=0.0)
        found += tl.where(seen, tl.exp(tl.where(seen, x - total[:, None], 0.0)), 0.0)
    return found / G


# fmt: off
@triton.jit
def spectrum_kernel(  # type: ignore[no-untyped-def]
    q, k, positions, lse, starts, lengths, matrix, ema, recent, count, complete, slots, scale,
    softcap, window, decay, G: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BN:
    tl.constexpr, HOP: tl.constexpr, BINS: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP:
    tl.constexpr, RELATIVE: tl.constexpr, PRECISION: tl.constexpr,
):
    # fmt: on
    """Advance the spectrogram of `BN` slots of one head by whole hops."""
    head = tl.program_id(0)
    slot = tl.program_id(1) * BN + tl.arange(0, BN)
    d, hop, bins = tl.arange(0, DP), tl.arange(0, HOP), tl.arange(0, 2 * HOP)
    start, length = tl.load(starts + head), tl.load(lengths + head).to(tl.int32)
    newest = tl.load(positions + start + length - 1)
    held, real = slot < length, slot[None, :] < slots
    keys = tl.load(
        k + (start + slot)[None, :] * D + d[:, None],
        mask=held[None, :] & (d[:, None] < D),
        other=0.0,
    )
    place = tl.load(positions + start + slot, mask=held, other=0)
    at = matrix + bins[:, None] * (2 * HOP) + hop[None, :]
    re_old, re_new = tl.load(at), tl.load(at + HOP)
    im_old, im_new = tl.load(at + 4 * HOP * HOP), tl.load(at + 4 * HOP * HOP + HOP)
    means = ema + (head.to(tl.int64) * BINS + bins[:, None]) * slots + slot[None, :]
    lasts = recent + (head.to(tl.int64) * HOP + hop[:, None]) * slots + slot[None, :]
    mean = tl.load(means, mask=real & (bins[:, None] < BINS), other=0.0)
    last = tl.load(lasts, mask=real, other=0.0)
    # Before the first query that sees one of these slots they are new, and all is zero.
    hidden = tl.maximum(tl.program_id(1) * BN - (length - count), 0) // HOP * HOP
    for first in range(hidden, complete, HOP):
        now = mean_weights(
            q, lse, keys, place, slot, head, first, length, count, newest,
            scale, softcap, window, G, D, DP, HOP, BN, WINDOW, SOFTCAP,
        )  # fmt: skip
        if RELATIVE:
            now = now * (length - count + first + 1 + hop)[:, None].to(tl.float32)
        re = tl.dot(re_old, last, input_precision=PRECISION)
        re = tl.dot(re_new, now, re, input_precision=PRECISION)
        im = tl.dot(im_old, last, input_precision=PRECISION)
        im = tl.dot(im_new, now, im, input_precision=PRECISION)
        mean = mean * decay + (1.0 - decay) * tl.sqrt(re * re + im * im)
        last = now
    tl.store(means, mean, mask=real & (bins[:, None] < BINS))
    tl.store(lasts, last, mask=real)


# fmt: off
@triton.jit
def columns_kernel(  # type: ignore[no-untyped-def]
    q, k, positions, lse, starts, lengths, state, count, complete, slots, scale, softcap,
    window, log_decay, G: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BN: tl.constexpr, BQ:
    tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, HOW: tl.constexpr,
):
    # fmt: on
    """Sums (0), maxima (1) or decayed sums (2) of the weights that `BN` slots received."""
    head = tl.program_id(0)
    slot = tl.program_id(1) * BN + tl.arange(0, BN)
    d = tl.arange(0, DP)
    start, length = tl.load(starts + head), tl.load(lengths + head).to(tl.int32)
    newest = tl.load(positions + start + length - 1)
    held = slot < length
    keys = tl.load(
        k + (start + slot)[None, :] * D + d[:, None],
        mask=held[None, :] & (d[:, None] < D),
        other=0.0,
    )
    place = tl.load(positions + start + slot, mask=held, other=0)
    numbers = state + head.to(tl.int64) * slots + slot
    found = tl.load(numbers, mask=slot < slots, other=0.0)
    if HOW == 2:
        found = found * tl.exp2(log_decay * complete)
    hidden = tl.maximum(tl.program_id(1) * BN - (length - count), 0) // BQ * BQ
    for first in range(hidden, complete, BQ):
        now = mean_weights(
            q, lse, keys, place, slot, head, first, length, count, newest,
            scale, softcap, window, G, D, DP, BQ, BN, WINDOW, SOFTCAP,
        )  # fmt: skip
        query = first + tl.arange(0, BQ)
        now = tl.where((query < complete)[:, None], now, 0.0)
        if HOW == 1:
            found = tl.maximum(found, tl.max(now, 0))
        elif HOW == 2:
            left = tl.exp2(log_decay * tl.maximum(complete - 1 - query, 0).to(tl.float32))
            found += tl.sum(now * left[:, None], 0)
        else:
            found += tl.sum(now, 0)
    tl.store(numbers, found, mask=slot < slots)


def observes(observation: WeightsObservation, formula: Formula) -> bool:
    """See :class:`namm_mm.kernels.choosing.Kernels`."""
    if type(observation) is SpectrogramOf:
        found = observation.spectrogram
        alone = formula.window is None or not found.relative
        return alone and found.hop in (16, 32, 64)
    return type(observation) in COLUMNS


# fmt: off
def fold(
    observation: WeightsObservation, state: State, queries: Tensor, complete: int,
    normaliser: Tensor, regions: Regions, formula: Formula,
) -> State:
    # fmt: on
    """See :class:`namm_mm.kernels.choosing.Kernels`."""
    heads, count, dim = len(regions.starts), *queries.shape[2:]
    block = 32 if dim > 128 else 64
    grid = (heads, triton.cdiv(regions.width, block))
    shared = (
        queries.contiguous(),
        regions.keys,
        regions.positions,
        normaliser.contiguous(),
        regions.starts,
        regions.lengths,
    )
    sizes = (count, complete, regions.width)
    numbers = (formula.scaling, formula.softcap or 1.0, formula.window or 0)
    how = {
        "G": queries.shape[0] * queries.shape[1] // heads,
        "D": dim,
        "DP": max(16, triton.next_power_of_2(dim)),
        "BN": block,
        "WINDOW": formula.window is not None,
        "SOFTCAP": formula.softcap is not None,
        "num_warps": 4,
        "num_stages": 1,
    }
    if isinstance(observation, SpectrogramOf):
        own = observation.spectrogram
        matrix = padded_transform(own, queries.device)
        state = {name: part.contiguous() for name, part in state.items()}
        state_of = (matrix, state["ema"], state["recent"])
        spectrum_kernel[grid](
            *shared, *state_of, *sizes, *numbers, own.decay, HOP=own.hop, BINS=own.bins,
            RELATIVE=own.relative, PRECISION="tf32x3", **how,
        )  # fmt: skip
        return state
    decay = observation.decay if isinstance(observation, DecayedSums) else 1.0
    merged = state[observation.name].clone(memory_format=torch.contiguous_format)
    columns_kernel[grid](
        *shared, merged, *sizes, *numbers, _log2(decay), BQ=QUERIES,
        HOW=COLUMNS[type(observation)], **how,
    )  # fmt: skip
    return {observation.name: merged}


def _log2(decay: float) -> float:
    return float(torch.tensor(decay, dtype=torch.float64).log2())


@lru_cache(maxsize=8)
def padded_transform(spectrogram: Spectrogram, device: torch.device) -> Tensor:
    """(2, n_fft, n_fft) float32: real and imaginary rows of the transform, then rows of zeros."""
    split = transform(spectrogram.n_fft, device).view(2, spectrogram.bins, spectrogram.n_fft)
    missing = spectrogram.n_fft - spectrogram.bins
    return functional.pad(split, (0, 0, 0, missing)).contiguous()
