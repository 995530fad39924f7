"""Spectrogram: the rhythm in which each token is attended to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.namm.spectrogram import Spectrogram, SpectrogramState
from namm_mm.observations.base import State, WeightsObservation

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class SpectrogramOf(WeightsObservation):
    """Decayed spectrogram of the attention received (NAMM, arXiv 2410.13166).

    ``statistics["spectrogram"]`` is (row, kv_head, slot, bins) float32.

    Attributes
    ----------
    spectrogram
        Window, hop and decay.
    """

    spectrogram: Spectrogram
    name: ClassVar[str] = "spectrogram"

    @property
    def batch(self) -> int:
        """One hop of queries makes one frame."""
        return self.spectrogram.hop

    @property
    def folds_rest(self) -> bool:
        """No: less than a hop is no frame. Intervals of whole hops leave no rest."""
        return False

    def check_interval(self, interval: int) -> None:
        """Raise `UsageError` unless `interval` is a multiple of the hop."""
        self.spectrogram.check_interval(interval)

    def initial(self, rows: int, heads: int, slots: int, device: torch.device | str) -> State:
        """Zeros: the decayed spectrum, and the attention of the last hop."""
        return self.spectrogram.initial(rows, heads, slots, device)._asdict()

    def fold(self, state: State, weights: Tensor) -> State:
        """Advance the spectrogram by whole hops."""
        return self.spectrogram.advance(SpectrogramState(**state), weights)._asdict()

    def read(self, state: State) -> Tensor:
        """The decayed spectrum alone: (row, kv_head, slot, bins)."""
        return state["ema"]
