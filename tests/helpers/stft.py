"""The oracle of the spectrogram: magnitudes of `torch.stft`, which shares no code with ours."""

from __future__ import annotations

import torch
from torch import Tensor

from namm_mm.namm.spectrogram import Spectrogram


def frames_reference(spectrogram: Spectrogram, signal: Tensor) -> Tensor:
    """Magnitudes of the frames that `spectrogram` should find in `signal`.

    Parameters
    ----------
    signal
        (..., time): attention received, after the `hop` values before it (zeros at the start).

    Returns
    -------
    Tensor
        (..., frame, bins) float32.
    """
    flat = signal.reshape(-1, signal.shape[-1]).float()
    size = spectrogram.n_fft
    window = torch.hann_window(size, periodic=True, device=signal.device)
    spectrum = torch.stft(
        flat, size, spectrogram.hop, window=window, center=False, return_complex=True
    )
    magnitudes = spectrum.abs().transpose(1, 2)
    return magnitudes.reshape(*signal.shape[:-1], *magnitudes.shape[1:])
