"""A run in workers: each keeps the model of a cell and is given samples, as records come back.

A **part** is one question under all policies, or all environments of a cell and seed, which are one
batch. Parts of all cells go to the workers at once, so that none waits for the end of a cell.
Records on disk stay the only truth: what they hold is not run again, as without workers. They are
those of a serial run, in the order in which they came. Workers may be on other machines: pictures
and histories come back with the records.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm import execution
from namm_mm.execution.progress import Progress, Silent
from namm_mm.experiment.acting import act_samples
from namm_mm.experiment.answering import answer_samples
from namm_mm.experiment.benchmarks import notices, save_table
from namm_mm.experiment.cell import Cell
from namm_mm.experiment.loading import device_of, load, make, samples_of
from namm_mm.experiment.settings import CellSettings, ExperimentSettings
from namm_mm.experiment.shards import part
from namm_mm.runs.provenance import device_name
from namm_mm.tasks.base import is_acting

if TYPE_CHECKING:
    from namm_mm.execution.base import Result
    from namm_mm.experiment.shards import Earlier
    from namm_mm.records import Provenance, Record, Sample


@dataclass(frozen=True)
class Part:
    """What one worker does at a time.

    Attributes
    ----------
    settings
        Of the cell, with the policies that are to run.
    dataset
        Fingerprint of the cell's data.
    samples
        One, or all environments of a batch.
    first, count
        See :func:`~namm_mm.experiment.answering.answer_samples`.
    """

    settings: CellSettings
    seed: int
    dataset: str
    samples: tuple[Sample, ...]
    first: int
    count: int

    @property
    def key(self) -> str:
        """Which part of the run this is."""
        names = [sample.id for sample in self.samples]
        return hashlib.sha256(f"{self.settings.name} {self.seed} {names}".encode()).hexdigest()

    @property
    def total(self) -> int:
        """Records that it makes."""
        return len(self.samples) * len(self.settings.policies)


@dataclass(frozen=True)
class MakeRunner:
    """Makes the work of a worker; the settings are those of the run, its provenance as well."""

    settings: ExperimentSettings
    provenance: Provenance

    def __call__(self) -> Runner:
        """In the worker, whose device the records name."""
        device = device_name(device_of(self.settings))
        return Runner(self.settings.name, dataclasses.replace(self.provenance, device=device))


class Runner:
    """Runs parts; the model of a cell stays until a part of another one comes."""

    def __init__(self, experiment: str, provenance: Provenance) -> None:
        self.experiment = experiment
        self.provenance = provenance
        self._loaded: tuple[str, Any, Any] | None = None

    def __call__(self, unit: Part) -> Result:
        """Return ``records``, and ``files``: what they name, by path within the run folder."""
        adapter, task = self._components(unit.settings)
        with tempfile.TemporaryDirectory(prefix="namm-part-") as place:
            folder = Path(place)
            cell = Cell(
                experiment=self.experiment,
                settings=unit.settings,
                adapter=adapter,
                task=task,
                dataset=unit.dataset,
                seed=unit.seed,
                provenance=self.provenance,
                folder=folder,
            )
            records = (
                act_samples(cell, unit.samples)
                if is_acting(task)
                else answer_samples(cell, unit.samples, first=unit.first, count=unit.count)
            )
            made = list(records)
            files = {
                file.relative_to(folder).as_posix(): file.read_bytes()
                for file in folder.rglob("*")
                if file.is_file()
            }
        return {"records": made, "files": files}

    def _components(self, settings: CellSettings) -> tuple[Any, Any]:
        if self._loaded is None or self._loaded[0] != settings.name:
            self._loaded = None
            gc.collect()  # the next model needs the room
            self._loaded = (settings.name, *load(settings, Silent()))
        return self._loaded[1:]


class Arrivals:
    """Takes what workers send: files into the run folder, records to the run."""

    def __init__(self, folder: Path, keep: Callable[[Record], None]) -> None:
        self.folder = folder
        self.keep = keep
        self._known: dict[str, Result] = {}

    def get(self, key: str) -> Result | None:
        """See :class:`~namm_mm.execution.base.Results`."""
        return self._known.get(key)

    def put(self, key: str, result: Result) -> None:
        """See :class:`~namm_mm.execution.base.Results`."""
        for name, content in result["files"].items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        for record in result["records"]:
            self.keep(record)
        self._known[key] = {}  # it is on disk


def run_in_workers(
    settings: ExperimentSettings,
    provenance: Provenance,
    progress: Progress,
    folder: Path,
    earlier: Earlier,
    keep: Callable[[Record], None],
) -> None:
    """Run all cells in the workers of ``settings.execution``.

    Parameters
    ----------
    provenance
        Of the run; records name the device of their worker.
    folder
        The run folder.
    earlier
        Records that are there; what they hold is not run again.
    keep
        Takes every new record.

    Raises
    ------
    UsageError
        A model does not fit its task.
    RunError
        A model cannot be loaded, or Ray cannot start. Records made before that are kept.
    """
    cells = [(cell, *make(cell)) for cell in settings.cells]
    parts = [
        unit
        for cell, adapter, task in cells
        for unit in _parts(cell, adapter, task, settings, provenance, progress, earlier)
    ]
    made: list[Record] = [*earlier.records]

    def take(record: Record) -> None:
        if not earlier.has(record):
            keep(record)
            made.append(record)
            progress.advance(record)

    if parts:
        _say_where(settings, len(parts), progress)
        progress.begin(settings.name, sum(unit.total for unit in parts))
        arrivals = Arrivals(folder, take)
        factory = MakeRunner(settings, provenance)
        with closing(
            execution.start(settings.execution, factory, arrivals, progress=progress)
        ) as engine:
            engine.run(parts)
    for cell, adapter, task in cells:
        for line in save_table(folder, cell.name, task, adapter.model_name, made):
            progress.say(line)


def _parts(
    settings: CellSettings,
    adapter: Any,
    task: Any,
    whole: ExperimentSettings,
    provenance: Provenance,
    progress: Progress,
    earlier: Earlier,
) -> Iterator[Part]:
    for seed in whole.seeds:
        samples: Sequence[Sample] = part(samples_of(task, settings, seed), whole.shard)
        for line in notices(task, samples):
            progress.say(f"{settings.name}: {line}")
        mark = task.fingerprint()
        cell = Cell(whole.name, settings, adapter, task, mark, seed, provenance)
        cell, samples = earlier.remaining(cell, samples)
        if is_acting(task):
            if samples:
                yield Part(cell.settings, seed, mark, tuple(samples), 0, len(samples))
            continue
        for number, sample in enumerate(samples):
            yield Part(cell.settings, seed, mark, (sample,), number, len(samples))


def _say_where(settings: ExperimentSettings, parts: int, progress: Progress) -> None:
    wanted = settings.execution
    each = f", {wanted.gpus_per_worker:g} GPU each" if wanted.gpus_per_worker else ""
    progress.say(f"{parts} parts for {wanted.worker_count} workers{each}")
    if not wanted.gpus_per_worker and execution.settings.gpus():
        progress.say("workers see no GPU: execution.gpus_per_worker=1 gives each of them one")
