"""The NAMM that a search starts from: a checkpoint, or zeros with measured feature statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.evolution.settings import StartSettings
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.namm.features import ClippedStatistics, RunningStatistics
from namm_mm.namm.params import LAYOUTS, Layout
from namm_mm.namm.spectrogram import Spectrogram
from namm_mm.observations.spectrogram import SpectrogramOf
from namm_mm.policies.base import THRESHOLD as KEEP_AT_ZERO
from namm_mm.policies.base import AnyBudget, LayerView, Policy
from namm_mm.registry.reader import Choice
from namm_mm.registry.registry import build
from namm_mm.tasks import TASKS

if TYPE_CHECKING:
    from namm_mm.adapters.base import AnsweringAdapter
    from namm_mm.records import Sample

LICENCE = "Apache-2.0"


def check_start(settings: StartSettings) -> Layout:
    """Return the layout of the start's parameters.

    Raises
    ------
    UsageError
        There is no such checkpoint, it has another layout, or gamma and interval do not fit.
    RunError
        The checkpoint is damaged.
    """
    if settings.checkpoint is not None:
        return Namm.from_pretrained(settings.checkpoint).layout
    if not settings.gamma < 1:
        raise UsageError(message("wrong gamma", given=settings.gamma, expected="below 1"))
    Spectrogram(gamma=settings.gamma).check_interval(settings.interval)
    return LAYOUTS["bam"]


def make_start(
    settings: StartSettings, adapter: AnsweringAdapter, samples: Sequence[Sample]
) -> Namm:
    """Return the checkpoint, or a BAM of zeros with the statistics of the full cache on `samples`.

    Parameters
    ----------
    adapter
        A loaded adapter.
    samples
        Training samples; a checkpoint does not use them.
    """
    if settings.checkpoint is not None:
        return Namm.from_pretrained(settings.checkpoint)
    spectrogram = Spectrogram(gamma=settings.gamma, relative=settings.relative)
    statistics = measure_statistics(
        adapter, samples, spectrogram, settings.interval, clip=settings.statistics_clip
    )
    mean, variance = statistics.freeze()
    layout = LAYOUTS["bam"]
    parts = {name: torch.zeros(shape) for name, shape in layout.shapes.items()}
    parts["score_bias"] += settings.bias
    return Namm(
        parameters=layout.join(parts),
        mean=mean,
        variance=variance,
        gamma=settings.gamma,
        interval=settings.interval,
        relative=settings.relative,
        card={
            "about": f"zeros with a bias of {settings.bias:g}: keeps everything; a start",
            "made_by": "namm-mm evolve",
            "licence": LICENCE,
            "statistics": f"full cache of {adapter.model_name}, {len(samples)} training prompts, "
            f"{statistics.count} spectra",
        },
    )


def start_of_run(
    path: Path, settings: StartSettings, adapter: AnsweringAdapter, task: Choice, seed: int
) -> Namm:
    """Return the start of a run from its file; a new run makes it and writes the file.

    Parameters
    ----------
    task
        The task of the first stage, whose training samples are measured.
    seed
        Seed of the samples.
    """
    if path.is_file() and path.with_suffix(".json").is_file():
        return Namm.from_pretrained(path)
    built = build(TASKS, task.name, task.options)
    samples = built.samples("train", settings.statistics_prompts, seed)
    namm = make_start(settings, adapter, [sample for sample in samples if not sample.fault])
    save(namm, path)
    return namm


@dataclass(frozen=True)
class _StatisticsPolicy(Policy):
    """A policy that keeps everything and pools the spectra that it sees."""

    name: ClassVar[str] = "statistics"
    spectrogram: Spectrogram
    statistics: RunningStatistics | ClippedStatistics
    budget: AnyBudget = field(default=KEEP_AT_ZERO, kw_only=True)

    @property
    def needs(self) -> SpectrogramOf:
        """The spectrogram to pool."""
        return SpectrogramOf(self.spectrogram)

    def score(self, view: LayerView) -> Tensor:
        """Return 0 for every token, which keeps it, as the zero vector of the official trainer."""
        spectrum = view.statistics["spectrogram"]
        shown = self.spectrogram.read(spectrum, view.age)
        self.statistics.add(shown[view.filled])
        return spectrum.new_zeros(spectrum.shape[:-1])


def measure_statistics(
    adapter: AnsweringAdapter,
    samples: Sequence[Sample],
    spectrogram: Spectrogram,
    interval: int,
    *,
    clip: float | None = None,
) -> RunningStatistics | ClippedStatistics:
    """Return the statistics of the spectra of a full cache, pooled over all updates of `samples`.

    Parameters
    ----------
    interval
        Tokens between two updates.
    clip
        The quantile of :class:`ClippedStatistics`; None pools all values, as published.
    """
    statistics = RunningStatistics() if clip is None else ClippedStatistics(clip)
    policy = _StatisticsPolicy(spectrogram, statistics)
    for sample in samples:
        inputs = adapter.prepare(sample)
        with torch.no_grad(), attach(adapter.backbone, policy, interval=interval) as memory:
            adapter.answer(inputs, memory)
    return statistics
