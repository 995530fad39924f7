"""NAMM: the evolved network scores each token by the attention it received (arXiv 2410.13166)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from namm_mm.policies.base import THRESHOLD, LayerView, Observation, Selection

if TYPE_CHECKING:
    from torch import Tensor

    from namm_mm.namm import Namm
    from namm_mm.namm.spectrogram import Spectrogram


@dataclass(frozen=True)
class NammPolicy:
    """Keep what the network scores at or above zero.

    Attributes
    ----------
    checkpoint
        A loaded network, the name of a bundled one, or a file.
    """

    checkpoint: Namm | str | Path = "general"
    selection: Selection = THRESHOLD
    name: str = "namm"
    needs: Observation = Observation.SPECTROGRAM
    network: Namm = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from namm_mm.namm import load

        loaded = (
            load(self.checkpoint) if isinstance(self.checkpoint, str | Path) else self.checkpoint
        )
        object.__setattr__(self, "network", loaded)

    @property
    def spectrogram(self) -> Spectrogram:
        """The observation that the network was trained with."""
        return self.network.spectrogram

    def score(self, view: LayerView) -> Tensor:
        """Run the network over each head's tokens."""
        network = self.network.to(view.positions.device)
        return network.score(view.statistics["spectrogram"], view.age, view.lengths)
