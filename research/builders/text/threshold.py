"""``namm-mm build threshold``: set the threshold of a NAMM, so that it keeps a given fraction.

A NAMM that was evolved at a fixed fraction of the cache has learned an order of the tokens, but no
threshold. This builder moves one number, the bias of the final layer, until the wanted fraction of
training prompts stays. The order does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.commands.build import Builder
from namm_mm.errors import UsageError, message
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.records import STORAGES
from namm_mm.tasks.long_text.task import LongTextTask
from research.builders.text.kept_fraction import kept_fraction
from research.builders.text.smollm2 import NAME as MODEL

TOLERANCE = 0.005  # of the fraction
ROUNDS = 14


@dataclass(frozen=True)
class BuildThreshold(Builder):
    """Moves the threshold of a NAMM.

    Attributes
    ----------
    namm
        The name of a bundled NAMM, or a file.
    out
        The ``.safetensors`` file to write; its card is written beside it.
    fraction
        Fraction of the tokens that are cached at the end of a prompt, mean over prompts and layers.
    prompts, words
        Training prompts of the long-text task on which it is measured, and their length.
    storage
        ``shared`` or ``per_head``: the storage that keeps this fraction.
    about
        First line of the card; by default that of `namm`.
    model
        The language model.
    """

    namm: str
    out: Path
    fraction: float = 0.5
    prompts: int = 20
    words: int = 300
    storage: str = "shared"
    about: str = ""
    model: str = MODEL

    renamed: ClassVar[Mapping[str, str]] = {"part": "fraction"}

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the file of the NAMM."""
        if not 0.0 < self.fraction < 1.0:
            raise UsageError(
                message("wrong fraction", given=self.fraction, expected="a number between 0 and 1")
            )
        if self.storage not in STORAGES:
            raise UsageError(
                message("unknown storage", given=self.storage, expected="a storage", valid=STORAGES)
            )
        start = Namm.from_pretrained(self.namm)
        adapter = TextAdapter(model=self.model)
        adapter.load()
        samples = LongTextTask(words=self.words).samples("train", self.prompts, seed=0)

        def measure(bias: float) -> float:
            found = kept_fraction(adapter, samples, shifted(start, bias), self.storage)
            say(f"bias {bias:+.4f}: {found:.3f} kept")
            return found

        bias, found = solve(measure, self.fraction)
        card = {
            **start.card,
            "about": self.about or start.card.get("about", "a NAMM with another threshold"),
            "threshold": f"bias moved by {bias:+.4f} so that {found:.3f} of the tokens of "
            f"{self.prompts} training prompts stay; namm-mm build threshold "
            f"fraction={self.fraction} storage={self.storage}",
            "storage": self.storage,
        }
        card.pop("name", None)
        card.setdefault("made_by", "namm-mm build threshold")
        card.setdefault("licence", "Apache-2.0")
        return save(replace(shifted(start, bias), card=card), self.out)


def shifted(namm: Namm, bias: float) -> Namm:
    """Return the same NAMM with `bias` added to all scores."""
    parts = {name: part.clone() for name, part in namm.layout.split(namm.parameters).items()}
    parts["score_bias"] += bias
    return replace(namm, parameters=namm.layout.join(parts))


def solve(measure: Callable[[float], float], fraction: float) -> tuple[float, float]:
    """Return a bias at which `measure`, which grows with it, gives `fraction`, and its value there.

    Raises
    ------
    UsageError
        No bias gives that fraction: more tokens always stay.
    """
    bias, found = 0.0, measure(0.0)
    low = high = bias
    step = 0.5
    if found < fraction:
        while found < fraction and step < 1e6:
            low, bias = bias, bias + step
            found, step = measure(bias), 2 * step
        high = bias
    else:
        while found > fraction and step < 1e6:
            high, bias = bias, bias - step
            found, step = measure(bias), 2 * step
        low = bias
    if step >= 1e6:
        raise UsageError(
            message(
                "no threshold keeps that fraction",
                given=fraction,
                expected=f"more than {found:.3f}, which always stays: the tokens since the last "
                "update",
                then="Take longer prompts (words=...), or a larger fraction.",
            )
        )
    for _ in range(ROUNDS):
        if abs(found - fraction) <= TOLERANCE:
            break
        bias = (low + high) / 2
        found = measure(bias)
        low, high = (bias, high) if found < fraction else (low, bias)
    return bias, found
