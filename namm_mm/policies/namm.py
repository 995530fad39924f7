"""NAMM: the evolved network scores each token by the attention it received (arXiv 2410.13166)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from namm_mm.policies.base import (
    THRESHOLD,
    LayerView,
    Observation,
    Selection,
    check_recents,
    newest_first,
)

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
    recents
        Newest tokens that always stay, as H2O protects them too: what few queries could look at yet
        is hard to judge. 0 is the published rule.
    """

    checkpoint: Namm | str | Path = "general"
    selection: Selection = THRESHOLD
    recents: int = 0
    name: str = "namm"
    needs: Observation = Observation.SPECTROGRAM
    network: Namm = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from namm_mm.namm import load

        check_recents(self.recents)
        loaded = (
            load(self.checkpoint) if isinstance(self.checkpoint, str | Path) else self.checkpoint
        )
        object.__setattr__(self, "network", loaded)

    @property
    def spectrogram(self) -> Spectrogram:
        """The observation that the network was trained with."""
        return self.network.spectrogram

    def score(self, view: LayerView) -> Tensor:
        """Run the network over each head's tokens; the newest ones score above all."""
        network = self.network.to(view.positions.device)
        scores = network.score(view.statistics["spectrogram"], view.age, view.lengths)
        return newest_first(scores, view, self.recents)
