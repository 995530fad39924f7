"""What runs a batch: in this process, or in a worker that keeps the model of its cell."""

from __future__ import annotations

import dataclasses
import gc
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from namm_mm.adapters.base import Adapter
from namm_mm.execution.base import Result
from namm_mm.execution.progress import Progress, Silent
from namm_mm.execution.temporary import make_folder
from namm_mm.experiment.acting import act_samples
from namm_mm.experiment.answering import answer_samples
from namm_mm.experiment.batches import Batch
from namm_mm.experiment.cell import Cell
from namm_mm.experiment.loading import device_of, load
from namm_mm.experiment.settings import CellSettings, ExperimentSettings
from namm_mm.records import Provenance, Record
from namm_mm.runs.history import FOLDER as HISTORIES
from namm_mm.runs.pictures import FOLDER as PICTURES
from namm_mm.runs.provenance import device_name, processor
from namm_mm.tasks.base import Task, is_acting

Keep = Callable[[Batch, Record], None]
"""Takes a record as soon as it is made."""


class Work:
    """Runs batches. The model of a cell stays loaded until a batch of another cell comes.

    Parameters
    ----------
    experiment
        Its name.
    provenance
        Of the run.
    """

    def __init__(self, experiment: str, provenance: Provenance) -> None:
        self.experiment = experiment
        self.provenance = provenance
        self._loaded: tuple[str, Adapter, Task] | None = None

    def records(self, batch: Batch, folder: Path, progress: Progress) -> Iterator[Record]:
        """Yield the records of a batch.

        Parameters
        ----------
        folder
            Pictures and histories are written below it.
        """
        adapter, task = self._components(batch.settings, progress)
        cell = Cell(
            experiment=self.experiment,
            settings=batch.settings,
            adapter=adapter,
            task=task,
            dataset=batch.dataset,
            seed=batch.seed,
            provenance=dataclasses.replace(self.provenance, dtype=dtype_of(adapter)),
            folder=folder,
        )
        if not is_acting(task):
            return answer_samples(cell, batch.samples, first=batch.first, count=batch.count)

        def on_step(step: int, alive: int) -> None:
            progress.detail(f"step {step}, {alive} alive")

        return act_samples(cell, batch.samples, on_step)

    def task(self, settings: CellSettings) -> Task | None:
        """Return the cell's task where it is made already."""
        return None

    def _components(self, settings: CellSettings, progress: Progress) -> tuple[Adapter, Task]:
        if self._loaded is None or self._loaded[0] != settings.name:
            self._loaded = None
            gc.collect()  # the next model needs the room
            self._loaded = (settings.name, *load(settings, progress, self.task(settings)))
        return self._loaded[1:]


class LocalWork(Work):
    """Work of the process that keeps the run folder.

    Parameters
    ----------
    folder
        The run folder.
    keep
        Takes every record as soon as it is made.
    tasks
        The tasks of the plan, by cell, so that data are read once.
    """

    def __init__(
        self,
        experiment: str,
        provenance: Provenance,
        folder: Path,
        keep: Keep,
        tasks: Mapping[str, Task],
        progress: Progress,
    ) -> None:
        super().__init__(experiment, provenance)
        self.folder = folder
        self.keep = keep
        self.tasks = tasks
        self.progress = progress

    def task(self, settings: CellSettings) -> Task | None:
        """See :class:`Work`."""
        return self.tasks.get(settings.name)

    def __call__(self, batch: Batch) -> Result:
        """Run a batch; all that it gives is in the run folder then."""
        for record in self.records(batch, self.folder, self.progress):
            self.keep(batch, record)
        return {"records": [], "files": {}}


class WorkerWork(Work):
    """Work of a process that may be on another machine."""

    def __call__(self, batch: Batch) -> Result:
        """Return ``records``, and ``files``: what they name, by path within the run folder."""
        with _scratch() as folder:
            records = list(self.records(batch, folder, Silent()))
            files = {
                file.relative_to(folder).as_posix(): file.read_bytes()
                for kind in (PICTURES, HISTORIES)
                for file in (folder / kind).rglob("*")
                if file.is_file()
            }
        return {"records": records, "files": files}


@dataclass(frozen=True)
class MakeWork:
    """Makes the work of a worker; the settings are those of the run, its provenance as well."""

    settings: ExperimentSettings
    provenance: Provenance

    def __call__(self) -> WorkerWork:
        """In the worker, whose device the records name."""
        device = device_name(device_of(self.settings))
        here = dataclasses.replace(self.provenance, device=device, processor=processor())
        return WorkerWork(self.settings.name, here)


def dtype_of(adapter: Adapter) -> str:
    """Return the dtype that a loaded model computes in: ``float32``, ``bfloat16``, ``float16``."""
    found = (p.dtype for p in adapter.backbone.parameters() if p.is_floating_point())
    return str(next(found, "")).removeprefix("torch.")


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = make_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
