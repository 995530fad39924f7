"""NAMM: the evolved network scores each token by the attention it received (arXiv 2410.13166)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from namm_mm.namm import Namm
from namm_mm.namm.spectrogram import Spectrogram
from namm_mm.observations.spectrogram import SpectrogramOf
from namm_mm.policies.base import THRESHOLD, AnyBudget, LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NammPolicy(Policy):
    """Keep what the network scores at or above zero.

    ``recents`` is 0 as published. More protects the newest tokens as H2O protects them: few queries
    could look at them yet.

    Attributes
    ----------
    checkpoint
        A loaded network, the name of a bundled one, or a file.
    network
        The loaded network.
    """

    name: ClassVar[str] = "namm"
    checkpoint: Namm | str | Path = "general"
    budget: AnyBudget = field(default=THRESHOLD, kw_only=True)
    network: Namm = field(init=False, repr=False, compare=False)

    def check(self) -> None:
        """Load the network; raise `UsageError` where there is none."""
        given = self.checkpoint
        object.__setattr__(
            self, "network", given if isinstance(given, Namm) else Namm.from_pretrained(given)
        )

    @property
    def spectrogram(self) -> Spectrogram:
        """The spectrogram that the network was trained with."""
        return self.network.spectrogram

    @property
    def needs(self) -> SpectrogramOf:
        """That spectrogram of the attention."""
        return SpectrogramOf(self.spectrogram)

    @property
    def interval(self) -> int:
        """The interval of the network's training."""
        return self.network.interval

    @property
    def storage(self) -> str | None:
        """The storage for which its threshold was set, as its card says."""
        return super().storage or self.network.storage

    def score(self, view: LayerView) -> Tensor:
        """Run the network over each head's tokens."""
        network = self.network.to(view.positions.device)
        return network.score(view.statistics["spectrogram"], view.age, view.lengths)
