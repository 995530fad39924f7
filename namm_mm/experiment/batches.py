"""The units of work of a run: which samples are run together, in which order.

A **batch** is one question under all policies, or all environments of a cell and seed. It is
planned before any model is loaded, so that data files are read first. What the run folder holds
already is not planned again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from namm_mm.errors import RunError
from namm_mm.execution.progress import Progress
from namm_mm.experiment.cell import Cell
from namm_mm.experiment.earlier import Earlier
from namm_mm.experiment.loading import make, samples_of
from namm_mm.experiment.settings import CellSettings, ExperimentSettings
from namm_mm.experiment.shards import in_shard
from namm_mm.records import Provenance, Sample
from namm_mm.registry.reader import listed
from namm_mm.tasks import faults
from namm_mm.tasks.base import Task, is_acting


@dataclass(frozen=True)
class Batch:
    """What is run at a time.

    Attributes
    ----------
    settings
        Of the cell, with the policies that are to run.
    seed
        Of the experiment.
    dataset
        Fingerprint of the cell's data.
    samples
        One, or all environments of a batch.
    first, count
        Number of the first sample among the `count` samples of its cell and seed, those that are on
        disk included: some of them are pictured and watched, the same ones however often a run is
        resumed.
    """

    settings: CellSettings
    seed: int
    dataset: str
    samples: tuple[Sample, ...]
    first: int
    count: int

    @property
    def key(self) -> str:
        """Which batch of the run this is."""
        names = [sample.id for sample in self.samples]
        return hashlib.sha256(f"{self.settings.name} {self.seed} {names}".encode()).hexdigest()

    @property
    def total(self) -> int:
        """Number of records that it makes."""
        return len(self.samples) * len(self.settings.policies)


@dataclass(frozen=True)
class CellPlan:
    """What is left to do in one cell.

    Attributes
    ----------
    task
        The cell's task; no model is loaded.
    model
        Name of the cell's model, as in its records.
    """

    settings: CellSettings
    task: Task
    model: str
    batches: tuple[Batch, ...]

    @property
    def total(self) -> int:
        """Number of records that its batches make."""
        return sum(batch.total for batch in self.batches)


def plan(
    settings: ExperimentSettings, provenance: Provenance, earlier: Earlier, progress: Progress
) -> list[CellPlan]:
    """Plan all cells, in their order.

    Parameters
    ----------
    earlier
        The records that are there.
    progress
        Is told what tasks say of their samples, such as which videos are missing.

    Raises
    ------
    UsageError
        A data file is malformed, or a cell has no sample.
    RunError
        Videos that the questions name, or parts of a model, are not on this machine.
    """
    plans = []
    problems: list[str] = []
    for cell in settings.cells:
        adapter, task = make(cell)
        batches: list[Batch] = []
        for seed in settings.seeds:
            samples = in_shard(samples_of(task, cell, seed), settings.shard)
            problems += [f"cells.{cell.name}.task: {line}" for line in task.missing(samples)]
            for line in (*faults.notices(samples), *task.notices(samples)):
                progress.say(f"{cell.name}: {line}")
            made = Cell(settings.name, cell, adapter, task, task.fingerprint(), seed, provenance)
            batches += _batches(made, samples, earlier)
        plans.append(CellPlan(cell, task, adapter.model_name, tuple(batches)))
        if batches and settings.execution.address is None:  # a cluster may have what is not here
            problems += [f"cells.{cell.name}.adapter.model: {line}" for line in adapter.missing()]
    if problems:
        raise RunError(listed(problems, "things are missing on this machine"))
    return plans


def _batches(cell: Cell, samples: tuple[Sample, ...], earlier: Earlier) -> Iterator[Batch]:
    count = len(samples)
    needed, missing = earlier.remaining(cell, samples)
    if is_acting(cell.task):
        if missing:
            yield Batch(needed.settings, cell.seed, cell.dataset, missing, 0, count)
        return
    names = {sample.id for sample in missing}
    for number, sample in enumerate(samples):
        if sample.id in names:
            yield Batch(needed.settings, cell.seed, cell.dataset, (sample,), number, count)
