"""What a plan says: plain values of each cell, and of the whole experiment."""

from __future__ import annotations

from dataclasses import dataclass

from namm_mm.plan.devices import Device
from namm_mm.plan.memory import RUNTIME, CacheNeed
from namm_mm.tasks.base import Download


@dataclass(frozen=True)
class CellPlan:
    """One cell.

    Attributes
    ----------
    context
        Tokens of the longest sequence that the cell can meet.
    context_from
        Where that number comes from, in words.
    sequences
        How many of them run together: one, or all episodes.
    samples
        Samples of each policy and seed; None where the data would have to be there to know.
    weights
        Bytes of the weights in memory; None, like `needs`, for an unknown model.
    seconds
        Of all policies and samples; None where it cannot be said.
    fits
        Whether weights and the largest need fit on the device; None where it cannot be said.
    would_fit
        What would, one sentence each, if they do not.
    """

    name: str
    adapter: str
    model: str
    task: str
    dtype: str
    context: int
    context_from: str
    sequences: int
    samples: int | None
    seeds: int
    downloads: tuple[Download, ...]
    weights: float | None
    kv_per_token: int | None
    needs: tuple[CacheNeed, ...]
    seconds: float | None
    fits: bool | None
    would_fit: tuple[str, ...]

    @property
    def peak(self) -> float | None:
        """Bytes of weights, runtime and the policy that needs most."""
        if self.weights is None:
            return None
        return self.weights + RUNTIME + max((n.total for n in self.needs), default=0.0)


@dataclass(frozen=True)
class Plan:
    """What an experiment would do.

    Attributes
    ----------
    config_hash
        As in the records that it would make.
    workers
        Processes that share the samples, each on a device of its own.
    """

    experiment: str
    config_hash: str
    device: Device
    cells: tuple[CellPlan, ...]
    workers: int = 1

    @property
    def downloads(self) -> tuple[Download, ...]:
        """Every download once."""
        return tuple({d.what + d.files: d for cell in self.cells for d in cell.downloads}.values())

    @property
    def fits(self) -> bool:
        """False if some cell certainly does not fit."""
        return all(cell.fits is not False for cell in self.cells)
