"""What the scorer sees of a cached token: its age and the normalised spectrum of its attention."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from namm_mm.errors import UsageError
from namm_mm.namm.params import AGE_FEATURES, BINS

MINIMUM_DEVIATION = 1e-7


def age_embedding(age: Tensor) -> Tensor:
    """Sines, then cosines, of an age at four frequencies.

    ``[sin(age w_k)] ++ [cos(age w_k)]`` with ``w_k = 50000^(-k/4)``, computed and not looked up, so
    that any age is fine (the official table ends at 32768).

    Parameters
    ----------
    age
        (...) tokens that came after this one.

    Returns
    -------
    Tensor
        (..., 8) float32.
    """
    count = AGE_FEATURES // 2
    exponent = torch.arange(count, dtype=torch.float64, device=age.device) / count
    # Doubles: in float32 the phase of an age of 100,000 is already wrong in the fourth digit.
    phase = age.to(torch.float64)[..., None] * 50000.0**-exponent
    return torch.cat([phase.sin(), phase.cos()], dim=-1).float()


def normalise(spectrum: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Standardise each frequency bin (..., bins) with frozen statistics (bins,)."""
    return (spectrum - mean) / variance.sqrt().clamp_min(MINIMUM_DEVIATION)


def features(spectrum: Tensor, age: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Features of each token: 8 of age, then 17 of the spectrum.

    Parameters
    ----------
    spectrum
        (..., 17) float32, the exponential mean of the magnitudes.
    age
        (...) tokens that came after this one.
    mean, variance
        (17,) frozen statistics.

    Returns
    -------
    Tensor
        (..., 25) float32.
    """
    return torch.cat([age_embedding(age), normalise(spectrum, mean, variance)], dim=-1)


@dataclass
class RunningStatistics:
    """Mean and population variance per bin, pooled over everything that was added.

    Batches and processes merge by the parallel rule (Chan et al. 1983): the order does not matter.
    """

    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    variance: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))

    def add(self, spectrum: Tensor) -> None:
        """Pool a batch of spectra (..., bins)."""
        flat = spectrum.reshape(-1, spectrum.shape[-1]).to(torch.float64)
        if flat.shape[0]:
            self.merge(RunningStatistics(flat.shape[0], flat.mean(0), flat.var(0, correction=0)))

    def merge(self, other: RunningStatistics) -> None:
        """Pool what another one has seen."""
        total = self.count + other.count
        if total == 0:
            return
        ours, theirs = self.count / total, other.count / total
        shift = other.mean - self.mean
        self.variance = (
            ours * self.variance + theirs * other.variance + ours * theirs * shift.square()
        )
        self.mean = self.mean + theirs * shift
        self.count = total

    def freeze(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (bins,) float32, to go with a parameter vector from now on."""
        if self.count == 0:
            raise UsageError("no spectra were added, so there are no statistics to freeze.")
        return self.mean.float(), self.variance.float()


@dataclass
class ClippedStatistics:
    """Mean and variance per bin after cutting off the highest values: sinks do not set the scale.

    A few tokens receive most of the attention, so that of all spectra pooled the deviation is ten
    times the mean and typical tokens lie within a tenth of it. Without the highest hundredths
    they lie about one deviation apart.

    Attributes
    ----------
    quantile
        What lies above this part of the values of a bin counts as its value there.
    every
        Only one spectrum in so many is looked at.
    """

    quantile: float = 0.98
    every: int = 4
    samples: list[Tensor] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Spectra looked at."""
        return sum(len(sample) for sample in self.samples)

    def add(self, spectrum: Tensor) -> None:
        """Look at a batch of spectra (..., bins)."""
        flat = spectrum.reshape(-1, spectrum.shape[-1])
        self.samples.append(flat[:: self.every].to("cpu", torch.float32).clone())

    def freeze(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (bins,) float32, to go with a parameter vector from now on."""
        if self.count == 0:
            raise UsageError("no spectra were added, so there are no statistics to freeze.")
        pooled = torch.cat(self.samples).double()
        rank = max(1, round(self.quantile * len(pooled)))
        highest = pooled.kthvalue(rank, dim=0).values
        clipped = pooled.minimum(highest)
        return clipped.mean(0).float(), clipped.var(0, correction=0).float()
