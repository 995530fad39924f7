"""Run a NAMM over prompts: pool the features of a full cache, or measure the part that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from namm_mm.namm import Namm
from namm_mm.namm.features import ClippedStatistics, RunningStatistics
from namm_mm.namm.spectrogram import Spectrogram
from namm_mm.policies.base import THRESHOLD as KEEP_AT_ZERO
from namm_mm.policies.base import LayerView, Observation, Policy, Selection
from namm_mm.policies.namm import NammPolicy
from namm_mm.records import MemoryUse, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from namm_mm.adapters.base import AnsweringAdapter


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
    return sum(use.kept_fraction or 0.0 for use in uses) / len(uses)


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
