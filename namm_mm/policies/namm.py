"""NAMM: the evolved network scores each token by the attention it received (arXiv 2410.13166)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.namm import Namm
from namm_mm.namm.spectrogram import Spectrogram
from namm_mm.observations.spectrogram import SpectrogramOf
from namm_mm.policies.base import THRESHOLD, AnyBudget, LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


STATES = ("compact", "float32")
"""How the state of the spectrogram is held: in 34 bytes for each token and head, or in 132."""


@dataclass(frozen=True)
class NammPolicy(Policy):
    """Keep what the network scores at or above zero.

    ``recents`` is 0 as published. More protects the newest tokens as H2O protects them: few queries
    could look at them yet.

    Attributes
    ----------
    checkpoint
        A loaded network, the name of a bundled one, or a file.
    state
        ``compact``: what is remembered of a token takes 34 bytes. ``float32``: 132 bytes, for
        parity with the official code to its last digits.
    network
        The loaded network.
    """

    name: ClassVar[str] = "namm"
    checkpoint: Namm | str | Path = "general"
    state: str = field(default="compact", kw_only=True)
    budget: AnyBudget = field(default=THRESHOLD, kw_only=True)
    network: Namm = field(init=False, repr=False, compare=False)

    def check(self) -> None:
        """Load the network; raise `UsageError` where there is none, or for an unknown state."""
        if self.state not in STATES:
            raise UsageError(
                message("unknown state of a NAMM", given=self.state, expected="one", valid=STATES)
            )
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
        """That spectrogram of the attention, in codes made for the network or in float32."""
        compact = self.state == "compact"
        return SpectrogramOf(self.spectrogram, self.network.codes if compact else None)

    @property
    def interval(self) -> int:
        """The interval of the network's training."""
        return self.network.interval

    @property
    def storage(self) -> str | None:
        """The storage for which its threshold was set, as its card says."""
        return super().storage or self.network.storage

    def score(self, view: LayerView) -> Tensor:
        """Run the network over the tokens of each head that must lose some."""
        network = self.network.to(view.positions.device)
        lengths = view.lengths if view.losing is None else view.lengths * view.losing
        return network.score(view.statistics["spectrogram"], view.age, lengths)
