"""The state of a spectrogram in 34 bytes a token: what a NAMM remembers, without float32.

A mean is ``m / (m + middle)`` in 10 bits: with a middle of four deviations the codes are densest
where tokens differ, and a sink of thousands of deviations has a code, too. The attention of the
last hop is kept as it enters the next frame, times the first half of the window, whose first number
is 0: as 63rds of the largest of them, which has a byte of its own. Byte by byte, for a hop of 16:

=======  =======================================================================
0 - 16   upper 8 bits of the 17 means
17 - 31  lower 2 bits of the first 15 means, and 6 bits of each of the 15 weights
32       4 bits that say whose turn it is, and the lower 2 bits of the last two means
33       the largest weight: sixths of octaves, rounded up; 132 is 1
=======  =======================================================================

While decoding, a frame moves a mean by a hundredth of a difference, less than half a code: rounded
to the nearest, it would never move. Means are therefore rounded down after adding a part of a code,
each sixteenth of one in turn (dither): over 16 frames what is lost and what is won cancel.

A slot of zeros is one that nobody attended to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from namm_mm.namm import compiled

MEANS = 1023
"""The code of an infinite mean; one less is the highest that is used."""

WEIGHTS = 63
"""The code of the largest weight."""

OCTAVE, ONE = 6, 132
"""Codes of an octave of the largest weight, and the code of 1."""

TURNS = (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15)
"""Sixteenths of a code that are added in turn: far ones after each other (van der Corput)."""


class Opened(NamedTuple):
    """What codes stand for.

    Attributes
    ----------
    ema
        (..., bin, slot) float32: means, 0 or more.
    recent
        (..., hop, slot) float32: weights, 0 or more; the first does not count.
    turn
        (..., 1, slot) uint8: how often the slot was packed, modulo 16.
    """

    ema: Tensor
    recent: Tensor
    turn: Tensor


@dataclass(frozen=True)
class StateCodes:
    """Codes of means and weights.

    Attributes
    ----------
    middles
        For each frequency bin the mean that has the code in the middle.
    wide
        Means are coded by their roots: over twice as many octaves, half as finely.
    """

    middles: tuple[float, ...]
    wide: bool = False

    @property
    def hop(self) -> int:
        """Queries between two frames."""
        return len(self.middles) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of one token and head."""
        return 2 * self.hop + 2

    def pack(self, state: Opened) -> Tensor:
        """Return codes (..., slot, byte) uint8; `state` is not changed."""
        device = state.ema.device
        tables = (self._middles(device), _window(self.hop, device), _added(self.hop, device))
        if (found := compiled.close_codes(state, *tables, wide=self.wide)) is not None:
            return found
        turn = (state.turn + 1) & 15
        codes = self._mean_codes(state.ema, turn)
        weights, scale = self._weight_codes(state.recent)
        low = (codes & 3).to(torch.uint8)
        both = low[..., : self.hop - 1, :].bitwise_left_shift(6).bitwise_or_(weights)
        rest = (turn << 4) | (low[..., -2:-1, :] << 2) | low[..., -1:, :]
        high = codes.bitwise_right_shift_(2).to(torch.uint8)
        return torch.cat([high, both, rest, scale], dim=-2).transpose(-1, -2).contiguous()

    def unpack(self, codes: Tensor) -> Opened:
        """Return what codes (..., slot, byte) stand for."""
        tables = self._middles(codes.device), _window(self.hop, codes.device)
        if (found := compiled.open_codes(codes, *tables, wide=self.wide)) is not None:
            return Opened(*found)
        codes = codes.transpose(-1, -2).contiguous()  # numbers of one kind in a row
        both = codes[..., self.hop + 1 : -2, :]
        largest = (codes[..., -1:, :].float() - ONE).div_(OCTAVE).exp2_()
        window = _window(self.hop, codes.device)
        recent = both.new_zeros(*codes.shape[:-2], self.hop, codes.shape[-1], dtype=torch.float32)
        recent[..., 1:, :] = (both & WEIGHTS).float().mul_(largest).div_(WEIGHTS * window)
        return Opened(self._means_of(codes), recent, codes[..., -2:-1, :] >> 4)

    def means(self, codes: Tensor) -> Tensor:
        """Return the means alone: (..., slot, bin) float32."""
        middles = self._middles(codes.device)
        if (found := compiled.read_means(codes, middles, wide=self.wide)) is not None:
            return found
        return self._means_of(codes.transpose(-1, -2)).transpose(-1, -2)

    def _mean_codes(self, ema: Tensor, turn: Tensor) -> Tensor:
        share = ema / self._middles(ema.device)
        if self.wide:
            share.sqrt_()
        added = _added(self.hop, ema.device)[turn[..., 0, :].long()].transpose(-1, -2)
        code = share.div_(share + 1.0).mul_(MEANS).add_(added)
        return code.clamp_(max=MEANS - 1).to(torch.int16)

    def _means_of(self, codes: Tensor) -> Tensor:
        """(..., bin, slot) float32 of codes (..., byte, slot)."""
        bins = self.hop + 1
        low = torch.cat(
            [
                codes[..., bins:-2, :] >> 6,
                (codes[..., -2:-1, :] >> 2) & 3,
                codes[..., -2:-1, :] & 3,
            ],
            dim=-2,
        )
        code = codes[..., :bins, :].float().mul_(4.0).add_(low)
        share = code.div_(MEANS - code)
        if self.wide:
            share.square_()
        return share.mul_(self._middles(codes.device))

    def _weight_codes(self, recent: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of the weights but the first, and of the largest of them; uint8."""
        windowed = recent[..., 1:, :] * _window(self.hop, recent.device)
        scale = windowed.amax(-2, keepdim=True).log2_().mul_(OCTAVE).ceil_().add_(ONE)
        scale.clamp_(0, 255)
        largest = (scale - ONE).div_(OCTAVE).exp2_()
        weights = windowed.mul_(WEIGHTS / largest).round_().clamp_(max=WEIGHTS)
        return weights.to(torch.uint8), scale.to(torch.uint8)

    def _middles(self, device: torch.device) -> Tensor:
        return _column(self.middles, device)


@lru_cache(maxsize=32)
def _column(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(numbers, device=device)[:, None]


@lru_cache(maxsize=8)
def _window(hop: int, device: torch.device) -> Tensor:
    """The rising half of the window without its first number, which is 0: (hop - 1, 1)."""
    return torch.hann_window(2 * hop, device=device)[1:hop, None]


@lru_cache(maxsize=8)
def _added(hop: int, device: torch.device) -> Tensor:
    """Parts of a code that are added in each turn to each mean: (16, hop + 1)."""
    turns = (torch.tensor(TURNS, device=device) + 0.5) / len(TURNS)
    golden = torch.arange(hop + 1, device=device) * 0.618034  # bins differ
    return (turns[:, None] + golden).frac_()
