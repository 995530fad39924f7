"""The attention a cached token received, as a short-time spectrum with an exponential memory.

Each cached token has a signal: the attention it got from one query after another. Its windowed
Fourier transform says how much (bin 0) and in which rhythm (the others) it is read. Frames overlap
by half, are reduced to magnitudes, and fade by ``gamma`` per token, so that a token carries 17
numbers however long the sequence is.

Nothing of the past has to be kept but the attention of the last half window, where the next frame
begins: this module folds attention into its state and forgets it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.namm.compiled import fold_frames


class SpectrogramState(NamedTuple):
    """What is remembered of the attention, for every slot of a cache.

    Attributes
    ----------
    ema
        (row, head, slot, bins) float32: exponential mean of the magnitudes.
    recent
        (row, head, slot, hop) float32: attention of the last `hop` queries, the first half of the
        next frame. Kept as it is: its transform would take twice the room.
    """

    ema: Tensor
    recent: Tensor


@dataclass(frozen=True)
class Spectrogram:
    """Short-time Fourier magnitudes of attention columns, reduced by an exponential mean.

    Periodic Hann window, no centring, no padding but zeros before the first query (An Evolved
    Universal Transformer Memory, arXiv 2410.13166, section 3).

    Attributes
    ----------
    n_fft
        Window length in queries.
    hop
        Queries between two frames; half of `n_fft`.
    gamma
        What is left of the past after one token, in (0, 1).
    relative
        Not the published signal, but one that a long context and a short one share: attention times
        the number of tokens it is divided among, so that 1 is an equal share, and means that do not
        begin at zero (:meth:`read`).
    """

    n_fft: int = 32
    hop: int = 16
    gamma: float = 0.99
    relative: bool = False

    def __post_init__(self) -> None:
        if self.hop < 1 or self.n_fft != 2 * self.hop:
            raise UsageError(
                message(
                    "wrong spectrogram window",
                    given={"n_fft": self.n_fft, "hop": self.hop},
                    expected="hop >= 1 and n_fft = 2 * hop (frames that overlap by half)",
                )
            )
        if not 0.0 < self.gamma < 1.0:
            raise UsageError(
                message("wrong gamma", given=self.gamma, expected="a decay per token in (0, 1)")
            )

    @property
    def bins(self) -> int:
        """Number of frequency bins."""
        return self.n_fft // 2 + 1

    @property
    def decay(self) -> float:
        """What is left of the past after one frame."""
        return float(self.gamma**self.hop)

    def check_interval(self, interval: int) -> None:
        """Raise `UsageError` unless `interval`, in tokens, is a positive multiple of `hop`."""
        if interval >= 1 and interval % self.hop == 0:
            return
        below = max(self.hop, interval // self.hop * self.hop)
        above = max(self.hop, -(-interval // self.hop) * self.hop)
        near = f"{below} or {above}" if below != above else f"{above}"
        raise UsageError(
            message(
                "wrong update interval",
                given=interval,
                expected=f"a positive multiple of the spectrogram's hop of {self.hop} tokens",
                then=f"Nearest: {near}.",
            )
        )

    def initial(
        self, rows: int, heads: int, slots: int, device: torch.device | str | None = None
    ) -> SpectrogramState:
        """State before any query: zeros."""
        return SpectrogramState(
            torch.zeros(rows, heads, slots, self.bins, device=device),
            torch.zeros(rows, heads, slots, self.hop, device=device),
        )

    def advance(self, state: SpectrogramState, attention: Tensor) -> SpectrogramState:
        """Fold the attention of new queries into the state.

        Parameters
        ----------
        state
            Of as many slots as `attention`; pad it with zeros for tokens that are new.
        attention
            (row, head, query, slot), mean over the query group; a multiple of `hop` queries.

        Returns
        -------
        SpectrogramState
            The new state. `state` is left as it is.

        Raises
        ------
        UsageError
            Shapes do not fit, or the number of queries is no multiple of `hop`.
        """
        self._check(state, attention)
        ema, recent = turned(state.ema), turned(state.recent)
        self.fold(ema, recent, attention)
        return SpectrogramState(turned(ema), turned(recent))

    def fold(self, ema: Tensor, recent: Tensor, attention: Tensor) -> None:
        """Fold attention into a state whose slots come last, in place.

        Parameters
        ----------
        ema, recent
            (row, head, bins, slot) and (row, head, hop, slot) float32, contiguous.
        attention
            (row, head, query, slot), a multiple of `hop` queries. It may have fewer slots than the
            state: later ones are of tokens that no query could see yet.

        Raises
        ------
        UsageError
            The number of queries is no multiple of `hop`.
        """
        queries, seen = attention.shape[2:]
        self._check_queries(queries)
        if not queries:
            return
        signal = self._signal(attention).flatten(0, 1)
        means, last = ema.flatten(0, 1), recent.flatten(0, 1)
        if fold_frames(means, last, signal, 1.0 - self.decay):
            return
        means, last = means[..., :seen], last[..., :seen]
        for frame in self._magnitudes(last, signal):
            means.lerp_(frame, 1.0 - self.decay)
        last.copy_(signal[:, -self.hop :])

    def read(self, ema: Tensor, age: Tensor) -> Tensor:
        """Return what a scorer reads: means (..., slot, bins) of tokens of an `age` (..., slot).

        The means themselves, as published: they begin at zero, so that a token needs about
        ``1 / (1 - gamma)`` queries to show what it receives. ``relative`` divides by what they
        would be, had the first bin's signal been 1 since the token came: the bias correction of
        Adam (arXiv 1412.6980), here with windows. Ages are those right after a whole hop.
        """
        if not self.relative:
            return ema
        frames = torch.div(age + 1, self.hop, rounding_mode="floor")
        rest = age + 1 - frames * self.hop
        begun = _window_end(self.n_fft, age.device)  # parts of the windows that it was there for
        whole = self.decay ** (frames - 1).clamp_min(0).float()
        newer = begun[(rest + self.hop).clamp_max(self.n_fft)]
        partial = whole * newer + whole * self.decay * begun[rest]
        old = 1.0 - whole + (1.0 - self.decay) * partial
        weight = torch.where(frames > 0, old, (1.0 - self.decay) * begun[rest])
        return ema / weight[..., None]

    def _signal(self, attention: Tensor) -> Tensor:
        attention = attention.float()
        if not self.relative:
            return attention
        return attention * (attention > 0).sum(-1, keepdim=True)  # softmax leaves no seen token 0

    def frames(self, state: SpectrogramState, attention: Tensor) -> Tensor:
        """Magnitudes of the frames that `advance` would fold: (row, head, frame, slot, bins)."""
        rows, heads, slots = self._check(state, attention)
        signal = self._signal(attention).reshape(rows * heads, -1, slots)
        recent = turned(state.recent).flatten(0, 1)
        magnitudes = torch.stack(
            [frame.clone() for frame in self._magnitudes(recent, signal)], dim=1
        )
        return magnitudes.transpose(2, 3).reshape(rows, heads, -1, slots, self.bins)

    def _check_queries(self, queries: int) -> None:
        if queries % self.hop:
            raise UsageError(
                message(
                    "wrong number of queries for the spectrogram",
                    given=queries,
                    expected=f"a multiple of the hop of {self.hop}",
                    then="Choose an update interval that is a multiple of the hop.",
                )
            )

    def _check(self, state: SpectrogramState, attention: Tensor) -> tuple[int, int, int]:
        rows, heads, queries, slots = attention.shape
        self._check_queries(queries)
        if state.ema.shape != (rows, heads, slots, self.bins):
            raise UsageError(
                message(
                    "spectrogram state and attention do not fit",
                    given=tuple(state.ema.shape),
                    expected=f"a state of shape {(rows, heads, slots, self.bins)}",
                )
            )
        return rows, heads, slots

    def _magnitudes(self, recent: Tensor, signal: Tensor) -> Iterator[Tensor]:
        """Magnitudes (sequence, bins, slot) of one frame after the other, all in the same buffer.

        A frame is one matrix product with the windowed transform; the first one begins in the call
        before. Transforming every half window once and joining neighbours, with the window put on
        afterwards, halves the products. But CPUs multiply faster than they read, and the sums
        around it cost more than is saved.
        """
        sequences, queries, slots = signal.shape
        matrix = transform(self.n_fft, signal.device).expand(sequences, -1, -1)
        spectrum = signal.new_empty(sequences, 2 * self.bins, slots)
        real, imag = spectrum[:, : self.bins], spectrum[:, self.bins :]
        torch.bmm(matrix[..., : self.hop], recent, out=spectrum)
        spectrum.baddbmm_(matrix[..., self.hop :], signal[:, : self.hop])
        yield real.square_().addcmul_(imag, imag).sqrt_()
        for start in range(0, queries - self.hop, self.hop):
            torch.bmm(matrix, signal[:, start : start + self.n_fft], out=spectrum)
            yield real.square_().addcmul_(imag, imag).sqrt_()


@lru_cache(maxsize=8)
def transform(n_fft: int, device: torch.device) -> Tensor:
    """Windowed Fourier transform, real rows and then imaginary ones: (2 * bins, n_fft)."""
    time = torch.arange(n_fft, dtype=torch.float64)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64)
    angle = -2.0 * math.pi / n_fft * bins[:, None] * time
    window = torch.hann_window(n_fft, periodic=True, dtype=torch.float64)
    return (torch.cat([angle.cos(), angle.sin()]) * window).float().to(device)


@lru_cache(maxsize=8)
def _window_end(n_fft: int, device: torch.device) -> Tensor:
    """Part of the window's sum in its last 0, 1, ... `n_fft` samples: (n_fft + 1,)."""
    window = torch.hann_window(n_fft, periodic=True, dtype=torch.float64)
    sums = torch.cat([window.new_zeros(1), window.flip(0).cumsum(0)])
    return (sums / window.sum()).float().to(device)


def turned(tensor: Tensor) -> Tensor:
    """A copy (row, head, n, slot) of (row, head, slot, n), or the other way round."""
    return tensor.transpose(2, 3).clone(memory_format=torch.contiguous_format)
