"""What a NAMM is, in lines for a reader: of its card, of its spectrogram and of its size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from namm_mm.namm.saved import Saved

FEATURES = 25
SHOWN = (
    "name",
    "purpose",
    "about",
    "evolved",
    "made_by",
    "licence",
    "storage",
    "threshold",
    "scores",
)
TRAINING = ("training", "rule", "statistics")


class Described(Saved, Protocol):
    """What can be told of a NAMM; see :class:`namm_mm.namm.network.Namm` for its attributes."""

    @property
    def scorer(self) -> str:
        """Its kind of network."""

    @property
    def gamma(self) -> float:
        """Decay of the mean over windows."""

    @property
    def n_fft(self) -> int:
        """Queries in a window."""

    @property
    def hop(self) -> int:
        """Queries between two windows."""

    @property
    def interval(self) -> int:
        """Tokens between two updates."""

    @property
    def storage(self) -> str | None:
        """The storage for which its threshold was set."""


def facts(namm: Described) -> Iterator[tuple[str, str]]:
    """Yield name and value of what is known of a NAMM, the most important first."""
    card = namm.card
    if purpose := card.get("purpose"):
        yield "purpose", str(purpose)
    yield "what", str(card.get("about") or "its card does not say")
    yield "evolved", "yes" if card.get("evolved") else "no"
    yield "made by", str(card.get("made_by") or "its card does not say")
    yield "licence", str(card.get("licence") or "its card does not say")
    seen = "relative to an equal share" if namm.relative else "as in the paper"
    bins = namm.n_fft // 2 + 1
    yield (
        "features",
        f"{FEATURES} of a token: {bins} of the spectrogram of its attention, {seen}, and 8 of its "
        "age",
    )
    yield (
        "spectrogram",
        f"windows of {namm.n_fft} queries, a new one every {namm.hop}, decay {namm.gamma:g}",
    )
    yield "parameters", f"{namm.parameters.numel()} ({namm.scorer})"
    yield "interval", f"{namm.interval} tokens between two updates"
    yield "storage", namm.storage or "its card does not say; shared unless you set one"
    yield "threshold", str(card.get("threshold") or "a token stays where its score is 0 or more")
    for key in TRAINING:
        yield from _flat(key, card.get(key))
    yield from _flat("score", card.get("scores"))
    for key in card:
        if key not in (*SHOWN, *TRAINING):
            yield from _flat(key, card[key])


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    """One line for each leaf of a card: its values may be mappings."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{name}: {key}", part)
    elif isinstance(value, float):
        yield name, f"{value:.4g}"
    elif value is not None:
        yield name, str(value)
