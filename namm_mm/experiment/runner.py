"""Run an experiment: adapter x task x policies x budgets x seeds, giving records.

There is one way: the cells are planned as batches, and batches are run by an execution, in this
process or in workers.

::

    outcome = run(from_mapping({...}))
    outcome.records, outcome.folder
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from namm_mm import execution
from namm_mm.execution.progress import Progress, Silent
from namm_mm.execution.settings import SERIAL
from namm_mm.execution.signals import stoppable
from namm_mm.execution.temporary import remove_abandoned
from namm_mm.experiment.about import keep_networks, run_info
from namm_mm.experiment.arrivals import Arrivals
from namm_mm.experiment.batches import plan
from namm_mm.experiment.benchmarks import FILE
from namm_mm.experiment.earlier import Earlier
from namm_mm.experiment.loading import device_of
from namm_mm.experiment.settings import ExperimentSettings
from namm_mm.experiment.work import LocalWork, MakeWork
from namm_mm.records import Provenance, Record
from namm_mm.runs.config import write_config
from namm_mm.runs.disk import explained
from namm_mm.runs.folder import new_folder
from namm_mm.runs.lock import locked
from namm_mm.runs.provenance import collect
from namm_mm.runs.tracker import Tracker
from namm_mm.tracking import open_run


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes
    ----------
    folder
        The run folder: ``config.yaml``, ``records.jsonl``, and what the trackers add.
    records
        All records of the run, those of earlier processes included.
    places
        Where to look, in words: ``{"records": path, "W&B": path}``.
    """

    folder: Path
    records: tuple[Record, ...]
    places: Mapping[str, str]

    @property
    def hopeless(self) -> tuple[str, ...]:
        """One sentence for each cell and policy of which no sample could be scored."""
        groups: dict[tuple[str, str, str], list[Record]] = {}
        for record in self.records:
            key = (record.task, record.policy, record.budget)
            groups.setdefault(key, []).append(record)
        return tuple(
            f"{task}, {policy} ({budget}): all {len(found)} samples failed, the first with: "
            f"{found[0].error}"
            for (task, policy, budget), found in groups.items()
            if all(record.error for record in found)
        )


def run(
    settings: ExperimentSettings,
    *,
    folder: Path | None = None,
    job_type: str = "transfer",
    progress: Progress | None = None,
    name: str = "",
    group: str = "",
) -> Outcome:
    """Run all cells; every record is on disk as soon as it is made.

    Parameters
    ----------
    settings
        Checked settings, from :func:`namm_mm.experiment.reading.from_mapping`.
    folder
        The run folder; by default ``settings.folder``, or a new one under ``settings.output``. One
        that holds records of these settings is gone on with.
    job_type
        What the trackers call this kind of run: ``transfer`` or ``eval``.
    progress
        Is told how it goes.
    name
        Name of a new run; by default the time and the beginning of its hash.
    group
        The group of runs that it belongs to, in W&B; by default its experiment.

    Raises
    ------
    UsageError
        The output folder cannot be written, another process is at work in it, or a model does not
        fit its task.
    RunError
        A model cannot be loaded, or the disk is full. Records made before that are kept, the run is
        marked as failed.
    """
    progress = progress or Silent()
    progress.say(f"experiment {settings.name}, configuration {settings.config_hash[:12]}")
    remove_abandoned()
    folder = folder or settings.folder or new_folder(settings.output / settings.name)
    with locked(folder), explained(folder), stoppable():
        earlier = Earlier(folder, settings)
        for problem in earlier.problems:
            progress.say(problem)
        provenance = collect(settings.config_hash, device_of(settings), run=earlier.name or name)
        info = run_info(settings, provenance, job_type, group)
        with open_run(folder, info, wandb_mode=settings.wandb) as tracker:
            write_config(folder, settings.as_mapping(), settings.config_hash)
            keep_networks(settings, folder, tracker)
            records = _run_batches(settings, provenance, earlier, folder, tracker, progress)
            tracker.finish("ok")
            places = dict(tracker.places)
    if (folder / FILE).is_file():
        places["benchmark"] = (folder / FILE).as_posix()
    return Outcome(folder, tuple(records), places)


def _run_batches(
    settings: ExperimentSettings,
    provenance: Provenance,
    earlier: Earlier,
    folder: Path,
    tracker: Tracker,
    progress: Progress,
) -> list[Record]:
    """Run what is missing; return all records of the run."""
    plans = plan(settings, provenance, earlier, progress)
    batches = [batch for cell in plans for batch in cell.batches]
    if batches and settings.execution.name != SERIAL:
        _say_where(settings.execution, len(batches), progress)
    arrivals = Arrivals(folder, plans, earlier, tracker, progress)
    if batches:
        tasks = {cell.settings.name: cell.task for cell in plans}
        local = LocalWork(settings.name, provenance, folder, arrivals.keep, tasks, progress)
        factory = MakeWork(settings, provenance)
        engine = execution.start(
            settings.execution, factory, arrivals, here=local, progress=progress
        )
        with closing(engine):
            engine.run(batches)
    return arrivals.records


def _say_where(wanted: execution.ExecutionSettings, batches: int, progress: Progress) -> None:
    each = f", {wanted.gpus_per_worker:g} GPU each" if wanted.gpus_per_worker else ""
    progress.say(f"{batches} batches for {wanted.worker_count} workers{each}")
    if not wanted.gpus_per_worker and execution.settings.gpus():
        progress.say("workers see no GPU: execution.gpus_per_worker=1 gives each of them one")
