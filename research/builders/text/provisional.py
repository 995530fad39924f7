"""``namm-mm build provisional``: measure the feature statistics, and write the hand-written NAMM.

The statistics are those of the full cache of SmolLM2-135M-Instruct on training prompts of the
long-text task, pooled over layers, heads, tokens and updates, as those of a published NAMM are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.commands.build import Builder
from namm_mm.evolution.start import measure_statistics
from namm_mm.namm.checkpoint import BUNDLED, save
from namm_mm.namm.spectrogram import Spectrogram
from namm_mm.tasks.long_text.task import LongTextTask
from research.builders.text.kept_fraction import kept_fraction
from research.builders.text.smollm2 import NAME as MODEL
from research.gradients.handwritten import (
    DISCOUNT,
    GAMMA,
    INTERVAL,
    RELATIVE_THRESHOLD,
    THRESHOLD,
    handwritten,
)

CLIP = 0.98  # relative attention has no upper limit: sinks receive a hundred equal shares


@dataclass(frozen=True)
class BuildProvisional(Builder):
    """Makes the hand-written NAMM.

    Attributes
    ----------
    out
        The ``.safetensors`` file to write, its card beside it; None replaces the bundled one.
    prompts
        Number of prompts on which the statistics are measured.
    relative
        Make the one that uses attention relative to an equal share.
    """

    out: Path | None = None
    prompts: int = 10
    relative: bool = False

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the file of the NAMM."""
        adapter = TextAdapter(model=MODEL)
        adapter.load()
        task = LongTextTask()
        say(f"measuring the attention of {MODEL} on {self.prompts} prompts")
        samples = task.samples("train", self.prompts, seed=0)
        spectrogram = Spectrogram(gamma=GAMMA, relative=self.relative)
        clip = CLIP if self.relative else None
        statistics = measure_statistics(adapter, samples, spectrogram, INTERVAL, clip=clip)
        mean, variance = statistics.freeze()
        threshold = RELATIVE_THRESHOLD if self.relative else THRESHOLD
        unit = " in equal shares" if self.relative else ""
        card: dict[str, object] = {
            "about": "provisional, written by hand, not evolved: keeps what still receives "
            "attention",
            "evolved": False,
            "made_by": "namm-mm build provisional" + (" relative=true" if self.relative else ""),
            "rule": f"keep where E >= {threshold} (1 - {DISCOUNT} cos(age / 223.6)), E the slow "
            f"mean of the attention received{unit}; all other parameters are zero",
            "statistics": f"full cache of {MODEL}, {self.prompts} training prompts of long_text "
            f"(fingerprint {task.fingerprint()}), {statistics.count} spectra",
            "licence": "Apache-2.0",
        }
        say("measuring how much it keeps of them")
        namm = handwritten(mean, variance, card, relative=self.relative)
        kept = kept_fraction(adapter, samples, namm)
        name = "fraction of the tokens of these prompts kept, shared storage"
        card["scores"] = {name: round(kept, 3)}
        bundled = "relative" if self.relative else "provisional"
        path = self.out or BUNDLED.path(bundled)
        say(f"writing {path}")
        return save(handwritten(mean, variance, card, relative=self.relative), path)
