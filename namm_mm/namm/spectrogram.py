"""The attention a cached token received, as a short-time spectrum with an exponential memory.

Each cached token has a signal: the attention it got from one query after another. Its windowed
Fourier transform says how much (bin 0) and in which rhythm (the others) it is read. Frames overlap
by half, are reduced to magnitudes, and fade by ``gamma`` per token, so that a token carries 17
numbers however long the sequence is.

The transform is linear before the magnitude, so nothing of the past has to be kept but the
transform of the last half window: this module folds attention into its state and forgets it.
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


class SpectrogramState(NamedTuple):
    """What is remembered of the attention, for every slot of a cache.

    Attributes
    ----------
    ema
        (row, head, slot, bins) float32: exponential mean of the magnitudes.
    half_real, half_imag
        (row, head, slot, bins) float32: transform of the last `hop` queries without a window. It is
        the first half of the next frame.
    """

    ema: Tensor
    half_real: Tensor
    half_imag: Tensor


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
    """

    n_fft: int = 32
    hop: int = 16
    gamma: float = 0.99

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
        shape = (rows, heads, slots, self.bins)
        return SpectrogramState(*(torch.zeros(shape, device=device) for _ in range(3)))

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
        rows, heads, queries, slots = self._check(state, attention)
        if queries == 0:
            return state
        signal = attention.reshape(rows * heads, queries, slots).float()
        ema = _bins_first(state.ema).clone(memory_format=torch.contiguous_format)
        for frame in self._magnitudes(state, signal):
            ema.lerp_(frame, 1.0 - self.decay)
        half = torch.matmul(_transforms(self.n_fft, signal.device).half, signal[:, -self.hop :])
        shape = (rows, heads, slots, self.bins)
        return SpectrogramState(
            ema.transpose(1, 2).reshape(shape),
            half[:, : self.bins].transpose(1, 2).reshape(shape),
            half[:, self.bins :].transpose(1, 2).reshape(shape),
        )

    def frames(self, state: SpectrogramState, attention: Tensor) -> Tensor:
        """Magnitudes of the frames that `advance` would fold: (row, head, frame, slot, bins)."""
        rows, heads, queries, slots = self._check(state, attention)
        signal = attention.reshape(rows * heads, queries, slots).float()
        magnitudes = torch.stack(
            [frame.clone() for frame in self._magnitudes(state, signal)], dim=1
        )
        return magnitudes.transpose(2, 3).reshape(rows, heads, -1, slots, self.bins)

    def frames_reference(self, signal: Tensor) -> Tensor:
        """Magnitudes by ``torch.stft``: the oracle of the tests.

        Parameters
        ----------
        signal
            (..., time): attention received, after the `hop` values before it (zeros at the start).

        Returns
        -------
        Tensor
            (..., frame, bins).
        """
        flat = signal.reshape(-1, signal.shape[-1]).float()
        window = torch.hann_window(self.n_fft, periodic=True, device=signal.device)
        spectrum = torch.stft(
            flat, self.n_fft, self.hop, window=window, center=False, return_complex=True
        )
        magnitudes = spectrum.abs().transpose(1, 2)
        return magnitudes.reshape(*signal.shape[:-1], *magnitudes.shape[1:])

    def _check(self, state: SpectrogramState, attention: Tensor) -> tuple[int, int, int, int]:
        rows, heads, queries, slots = attention.shape
        if queries % self.hop:
            raise UsageError(
                message(
                    "wrong number of queries for the spectrogram",
                    given=queries,
                    expected=f"a multiple of the hop of {self.hop}",
                    then="Choose an update interval that is a multiple of the hop.",
                )
            )
        if state.ema.shape != (rows, heads, slots, self.bins):
            raise UsageError(
                message(
                    "spectrogram state and attention do not fit",
                    given=tuple(state.ema.shape),
                    expected=f"a state of shape {(rows, heads, slots, self.bins)}",
                )
            )
        return rows, heads, queries, slots

    def _magnitudes(self, state: SpectrogramState, signal: Tensor) -> Iterator[Tensor]:
        """Magnitudes (sequence, bins, slot) of one frame after the other, all in the same buffer.

        Inside a call a frame is one matrix product with the windowed transform. Only the first
        frame has its earlier half in another call: there the window is put on the kept half
        transform. Doing so for all frames halves the products, but CPUs multiply faster than they
        read, and the sums around it make the whole two to three times slower.
        """
        sequences, queries, slots = signal.shape
        transforms = _transforms(self.n_fft, signal.device)
        spectrum = signal.new_empty(sequences, 2 * self.bins, slots)
        real, imag = spectrum[:, : self.bins], spectrum[:, self.bins :]

        def transform(matrix: Tensor, part: Tensor) -> None:
            torch.bmm(matrix.expand(sequences, -1, -1), part, out=spectrum)

        transform(transforms.late, signal[:, : self.hop])
        real.baddbmm_(transforms.hann_real.expand(sequences, -1, -1), _bins_first(state.half_real))
        imag.baddbmm_(transforms.hann_imag.expand(sequences, -1, -1), _bins_first(state.half_imag))
        yield real.square_().addcmul_(imag, imag).sqrt_()
        for start in range(0, queries - self.hop, self.hop):
            transform(transforms.window, signal[:, start : start + self.n_fft])
            yield real.square_().addcmul_(imag, imag).sqrt_()


class _Transforms(NamedTuple):
    """Matrices of the Fourier transforms; (2 * bins, queries) ones are real, then imaginary."""

    window: Tensor  # of a whole window, Hann applied
    late: Tensor  # its second half
    half: Tensor  # of a first half without a window
    hann_real: Tensor  # (bins, bins): the window, applied after the transform
    hann_imag: Tensor


@lru_cache(maxsize=8)
def _transforms(n_fft: int, device: torch.device) -> _Transforms:
    time = torch.arange(n_fft, dtype=torch.float64)
    angle = (
        -2.0 * math.pi / n_fft * torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None] * time
    )
    plain = torch.cat([angle.cos(), angle.sin()])
    window = plain * torch.hann_window(n_fft, periodic=True, dtype=torch.float64)
    hop = n_fft // 2
    parts = (window, window[:, hop:], plain[:, :hop], _hann(hop + 1, 1.0), _hann(hop + 1, -1.0))
    return _Transforms(*(part.float().contiguous().to(device) for part in parts))


def _hann(bins: int, mirror: float) -> Tensor:
    """The Hann window as three taps over the bins: (bins, bins).

    ``w[n] = 1/2 - 1/4 exp(2 pi i n / n_fft) - 1/4 exp(-2 pi i n / n_fft)``, and each exponential
    shifts the spectrum by one bin. Past both ends the spectrum of a real signal goes on mirrored:
    equal in its real part (`mirror` = 1), with the other sign in its imaginary part (-1).
    """
    taps = 0.5 * torch.eye(bins, dtype=torch.float64)
    taps.diagonal(1).fill_(-0.25)
    taps.diagonal(-1).fill_(-0.25)
    taps[0, 1] -= 0.25 * mirror
    taps[-1, -2] -= 0.25 * mirror
    return taps


def _bins_first(tensor: Tensor) -> Tensor:
    """(row, head, slot, bins) -> (row * head, bins, slot)."""
    return tensor.flatten(0, 1).transpose(1, 2)
