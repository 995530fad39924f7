"""Make the provisional NAMM again: measure what its features are normalised with, and write it.

The statistics are those of the full cache of SmolLM2-135M-Instruct over training prompts of the
long-text task, pooled over layers, heads, tokens and updates, as NAMM's own are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import ASSETS, PREFIX, save
from namm_mm.namm.features import ClippedStatistics, RunningStatistics
from namm_mm.namm.provisional import GAMMA, INTERVAL, PRICE, RECENCY, SHARE, provisional
from namm_mm.namm.spectrogram import Spectrogram
from namm_mm.policies.base import THRESHOLD as KEEP_AT_ZERO
from namm_mm.policies.base import LayerView, Observation, Policy, Selection
from namm_mm.policies.namm import NammPolicy
from namm_mm.records import MemoryUse, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from namm_mm.adapters.base import AnsweringAdapter

MODEL = "smollm2-135m-instruct"
CLIP = 0.98  # a share has no upper end: sinks receive a hundred


@dataclass
class Measuring:
    """A policy that keeps everything and pools the spectra it is shown."""

    spectrogram: Spectrogram
    statistics: RunningStatistics | ClippedStatistics = field(default_factory=RunningStatistics)
    selection: Selection = KEEP_AT_ZERO
    name: str = "measuring"
    needs: Observation = Observation.SPECTROGRAM

    def score(self, view: LayerView) -> Tensor:
        """Score 0, which stays, like the official trainer's zero vector."""
        spectrum = view.statistics["spectrogram"]
        shown = self.spectrogram.read(spectrum, view.age)
        self.statistics.add(shown[view.filled])
        return spectrum.new_zeros(spectrum.shape[:-1])


def measure(
    adapter: AnsweringAdapter,
    samples: Sequence[Sample],
    spectrogram: Spectrogram,
    interval: int,
    *,
    clip: float | None = None,
) -> RunningStatistics | ClippedStatistics:
    """Pool the spectra of a full cache, at every update, over the prompts of `samples`.

    `clip` is the quantile of :class:`ClippedStatistics`; None pools all values, as published.
    """
    pooled = RunningStatistics() if clip is None else ClippedStatistics(clip)
    policy = Measuring(spectrogram, pooled)
    _run(adapter, samples, policy, interval)
    return policy.statistics


def kept(
    adapter: AnsweringAdapter, samples: Sequence[Sample], namm: Namm, storage: str = "shared"
) -> float:
    """Run `namm` over `samples`; return the part of the tokens cached at the end, mean over all."""
    uses = _run(adapter, samples, NammPolicy(namm), namm.interval, storage)
    return sum(use.tokens_final / use.seen for use in uses) / len(uses)


def _run(
    adapter: AnsweringAdapter,
    samples: Sequence[Sample],
    policy: Policy,
    interval: int,
    storage: str = "shared",
) -> list[MemoryUse]:
    import torch

    from namm_mm.memory import attach

    uses = []
    for sample in samples:
        inputs = adapter.prepare(sample)
        with (
            torch.no_grad(),
            attach(adapter.backbone, policy, interval=interval, storage=storage) as memory,
        ):
            adapter.answer(inputs, memory)
            uses.append(memory.usage())
    return uses


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
    from namm_mm.adapters.text import TextAdapter
    from namm_mm.tasks.long_text.task import LongTextTask

    adapter = TextAdapter(model=MODEL)
    adapter.load()
    task = LongTextTask()
    say(f"measuring the attention of {MODEL} on {prompts} prompts")
    samples = task.samples("train", prompts, seed=0)
    spectrogram = Spectrogram(gamma=GAMMA, relative=relative)
    clip = CLIP if relative else None
    statistics = measure(adapter, samples, spectrogram, INTERVAL, clip=clip)
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
    part = kept(adapter, samples, provisional(mean, variance, card, relative=relative))
    card["scores"] = {"part of these prompts' tokens kept, shared storage": round(part, 3)}
    name = "relative" if relative else "provisional"
    path = out or ASSETS / f"{PREFIX}{name}.safetensors"
    say(f"writing {path}")
    return save(provisional(mean, variance, card, relative=relative), path)
