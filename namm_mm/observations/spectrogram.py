"""Spectrogram: the rhythm in which each token is attended to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.namm.codes import Opened, StateCodes
from namm_mm.namm.spectrogram import Spectrogram, turned
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
    codes
        How the state is held, in 34 bytes a token; None holds it in float32, in 132.
    """

    spectrogram: Spectrogram
    codes: StateCodes | None = None
    name: ClassVar[str] = "spectrogram"
    narrow: ClassVar[bool] = True

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
        import torch

        if self.codes is None:
            return self.spectrogram.initial(rows, heads, slots, device)._asdict()
        size = (rows, heads, slots, self.codes.nbytes)
        return {"codes": torch.zeros(size, dtype=torch.uint8, device=device)}

    def opened(self, state: State) -> State:
        """Means (row, kv_head, bins, slot) and attention (row, kv_head, hop, slot), float32."""
        if self.codes is None:
            return {name: turned(part) for name, part in state.items()}
        return self.codes.unpack(state["codes"])._asdict()

    def fold(self, state: State, weights: Tensor) -> State:
        """Advance the spectrogram by whole hops, in place: the state was opened."""
        self.spectrogram.fold(state["ema"], state["recent"], weights)
        return state

    def closed(self, state: State) -> State:
        """Codes, or float32 in the order of the slots."""
        if self.codes is None:
            return {name: turned(part) for name, part in state.items()}
        return {"codes": self.codes.pack(Opened(**state))}

    def read(self, state: State) -> Tensor:
        """The decayed spectrum alone: (row, kv_head, slot, bins)."""
        return state["ema"] if self.codes is None else self.codes.means(state["codes"])
