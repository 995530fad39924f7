"""Variants of what a NAMM sees, so that it means the same in a model that it never saw.

``published``   the published features, with frozen statistics of one model
``relative``    attention relative to an equal share, with statistics of each model
``logarithm``   the logarithm of ``relative``: a head or a model whose attention has another scale
                is shifted by a constant, which does not change the order of its tokens

Statistics of a model are measured once with its full cache, and are frozen then. The constant of
the exponential mean is in units of the interval.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.namm.features import ClippedStatistics
from namm_mm.namm.params import BINS
from namm_mm.observations.spectrogram import SpectrogramOf
from namm_mm.policies.base import AnyBudget, LayerView, Policy
from namm_mm.policies.budgets import Budget

VARIANTS = ("published", "relative", "logarithm")
LEFT = 0.999**128  # of the past after one interval, as in the bundled NAMMs
SMALLEST = 1e-3  # of an equal share


@dataclass(frozen=True, eq=False)
class LogarithmicNamm(Namm):
    """A NAMM that sees logarithms of the relative spectrum."""

    def shown(self, spectrum: Tensor, age: Tensor) -> Tensor:
        """Return what is standardised: (..., slot, 17)."""
        return (super().shown(spectrum, age) + SMALLEST).log()


@dataclass(frozen=True)
class _Watch(Policy):
    """Keeps everything and pools what the NAMM is shown."""

    name: ClassVar[str] = "watch"
    namm: Namm
    statistics: ClippedStatistics
    budget: AnyBudget = field(default=Budget(fraction=1.0), kw_only=True)

    @property
    def needs(self) -> SpectrogramOf:
        """The spectrogram of the NAMM."""
        return SpectrogramOf(self.namm.spectrogram)

    def score(self, view: LayerView) -> Tensor:
        """Return 0 for every token."""
        spectrum = view.statistics["spectrogram"]
        self.statistics.add(self.namm.shown(spectrum, view.age)[view.filled])
        return spectrum.new_zeros(spectrum.shape[:-1])


def blank(variant: str, interval: int, size: int) -> Namm:
    """Return a NAMM of `size` zeros, with statistics of 0 and 1 until a model is measured."""
    kind = LogarithmicNamm if variant == "logarithm" else Namm
    return kind(
        torch.zeros(size),
        torch.zeros(BINS),
        torch.ones(BINS),
        gamma=LEFT ** (1.0 / interval),
        interval=interval,
        relative=variant != "published",
    )


def calibrated(namm: Namm, model: PreTrainedModel, tokens: Tensor) -> Namm:
    """Return the NAMM with the statistics of `model` on `tokens` (row, token), full cache."""
    statistics = ClippedStatistics(every=1)
    watch = _Watch(namm, statistics)
    with torch.no_grad(), attach(model, watch, interval=namm.interval, storage="shared"):
        model(input_ids=tokens, use_cache=True, logits_to_keep=1)
    mean, variance = statistics.freeze()
    return replace(namm, mean=mean, variance=variance.clamp_min(1e-6))
