"""Make the provisional NAMM again: measure what its features are normalised with, and write it.

The statistics are those of the full cache of SmolLM2-135M-Instruct over training prompts of the
long-text task, pooled over layers, heads, tokens and updates, as NAMM's own are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from namm_mm.evolution.start import measure_statistics
from namm_mm.namm.checkpoint import ASSETS, PREFIX, save
from namm_mm.namm.spectrogram import Spectrogram
from research.builders.kept_fraction import kept_fraction
from research.gradients.handwritten import GAMMA, INTERVAL, PRICE, RECENCY, SHARE, provisional

if TYPE_CHECKING:
    pass

MODEL = "smollm2-135m-instruct"
CLIP = 0.98  # a share has no upper end: sinks receive a hundred


def build(
    *,
    out: Path | None = None,
    prompts: int = 10,
    relative: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Make the provisional NAMM.

    Parameters
    ----------
    out
        The ``.safetensors`` file to write; None replaces the bundled one.
    prompts
        How many prompts the statistics are measured on.
    relative
        Make the one that sees attention relative to an equal share.
    say
        Told one line per step.

    Returns
    -------
    Path
        The file; its card lies beside it.
    """
    from namm_mm.adapters.text.adapter import TextAdapter
    from namm_mm.tasks.long_text.task import LongTextTask

    adapter = TextAdapter(model=MODEL)
    adapter.load()
    task = LongTextTask()
    say(f"measuring the attention of {MODEL} on {prompts} prompts")
    samples = task.samples("train", prompts, seed=0)
    spectrogram = Spectrogram(gamma=GAMMA, relative=relative)
    clip = CLIP if relative else None
    statistics = measure_statistics(adapter, samples, spectrogram, INTERVAL, clip=clip)
    mean, variance = statistics.freeze()
    price, share = (SHARE, " in equal shares") if relative else (PRICE, "")
    card: dict[str, object] = {
        "about": "provisional, written by hand, not evolved: keeps what still receives attention",
        "evolved": False,
        "made_by": "namm-mm build provisional" + (" relative=true" if relative else ""),
        "rule": f"keep where E >= {price} (1 - {RECENCY} cos(age / 223.6)), E the slow mean of "
        f"attention received{share}; all other parameters are zero",
        "statistics": f"full cache of {MODEL}, {prompts} training prompts of long_text "
        f"(fingerprint {task.fingerprint()}), {statistics.count} spectra",
        "licence": "Apache-2.0",
    }
    say("measuring how much it keeps of them")
    part = kept_fraction(adapter, samples, provisional(mean, variance, card, relative=relative))
    card["scores"] = {"part of these prompts' tokens kept, shared storage": round(part, 3)}
    name = "relative" if relative else "provisional"
    path = out or ASSETS / f"{PREFIX}{name}.safetensors"
    say(f"writing {path}")
    return save(provisional(mean, variance, card, relative=relative), path)
