"""The NAMM that a search starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from namm_mm.errors import UsageError, message
from namm_mm.namm import Namm, load
from namm_mm.namm.params import LAYOUTS, Layout
from namm_mm.namm.spectrogram import Spectrogram

if TYPE_CHECKING:
    from namm_mm.adapters.base import AnsweringAdapter
    from namm_mm.evolution.stages import StartSettings
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
        return load(settings.checkpoint).layout
    if not settings.gamma < 1:
        raise UsageError(message("wrong gamma", given=settings.gamma, expected="below 1"))
    Spectrogram(gamma=settings.gamma).check_interval(settings.interval)
    return LAYOUTS["bam"]


def make_start(
    settings: StartSettings, adapter: AnsweringAdapter, samples: Sequence[Sample]
) -> Namm:
    """Load the start, or make one of zeros with statistics of the full cache on `samples`."""
    if settings.checkpoint is not None:
        return load(settings.checkpoint)
    from namm_mm.evolution.measuring import measure

    spectrogram = Spectrogram(gamma=settings.gamma, relative=settings.relative)
    statistics = measure(
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
