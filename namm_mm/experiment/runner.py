"""Run an experiment: adapter x task x policies x budgets x seeds, giving records.

::

    outcome = run(settings.from_mapping({...}))
    outcome.records, outcome.folder
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from namm_mm.errors import RunError, UsageError, message
from namm_mm.execution.progress import Progress, Silent
from namm_mm.execution.settings import SERIAL
from namm_mm.experiment.acting import act_samples
from namm_mm.experiment.answering import answer_samples
from namm_mm.experiment.benchmarks import FILE, notices, save_table
from namm_mm.experiment.cell import Cell
from namm_mm.experiment.loading import device_of, load, samples_of
from namm_mm.experiment.settings import ExperimentSettings
from namm_mm.experiment.shards import Earlier, part
from namm_mm.experiment.workers import run_in_workers
from namm_mm.records import Provenance, Record, Sample
from namm_mm.runs import RunInfo, Tracker
from namm_mm.runs.provenance import collect
from namm_mm.tasks.base import is_acting
from namm_mm.tracking import open_run

CONFIG = "config.yaml"


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes
    ----------
    folder
        The run folder: ``config.yaml``, ``records.jsonl``, and what the trackers add.
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

    Raises
    ------
    UsageError
        The output folder cannot be written, or a model does not fit its task.
    RunError
        A model cannot be loaded. Records made before that are kept, the run is marked as failed.
    """
    progress = progress or Silent()
    progress.say(f"experiment {settings.name}, configuration {settings.config_hash[:12]}")
    provenance = collect(settings.config_hash, device_of(settings))
    folder = folder or settings.folder or new_folder(settings.output / settings.name)
    info = _info(settings, provenance, job_type)
    earlier = Earlier(folder, settings)
    records = [*earlier.records]
    with open_run(folder, info, wandb_mode=settings.wandb) as tracker:
        _write_config(folder, settings)
        _keep_networks(settings, folder, tracker)

        def keep(record: Record) -> None:
            tracker.record(record)
            records.append(record)

        if settings.execution.name == SERIAL:
            for record in _records(settings, provenance, progress, folder, earlier):
                keep(record)
        else:
            run_in_workers(settings, provenance, progress, folder, earlier, keep)
        places = dict(tracker.places)
    if (folder / FILE).is_file():
        places["benchmark"] = (folder / FILE).as_posix()
    return Outcome(folder, tuple(records), places)


def new_folder(parent: Path) -> Path:
    """Make and return ``PARENT/YEARMONTHDAY-HOURMINUTESECOND``, with a number if it is taken.

    Raises
    ------
    UsageError
        It cannot be made.
    """
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    for number in range(1000):
        folder = parent / (f"{stamp}-{number}" if number else stamp)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(
                message(
                    "the output folder cannot be written",
                    given=str(folder),
                    expected=f"a folder that you may write to ({error.strerror})",
                    then="Choose another one with `output=FOLDER`.",
                )
            ) from error
        return folder
    raise RunError(f"{parent} holds a thousand runs of this second: remove some.")


def _records(
    settings: ExperimentSettings,
    provenance: Provenance,
    progress: Progress,
    folder: Path,
    earlier: Earlier,
) -> Iterator[Record]:
    for cell_settings in settings.cells:
        adapter, task = load(cell_settings, progress)
        done: list[Record] = []
        for seed in settings.seeds:
            samples = part(samples_of(task, cell_settings, seed), settings.shard)
            for line in notices(task, samples):
                progress.say(f"{cell_settings.name}: {line}")
            cell = Cell(
                experiment=settings.name,
                settings=cell_settings,
                adapter=adapter,
                task=task,
                dataset=task.fingerprint(),
                seed=seed,
                provenance=provenance,
                folder=folder,
            )
            cell, samples = earlier.remaining(cell, samples)
            if not samples:
                continue
            progress.begin(cell_settings.name, len(samples) * len(cell.settings.policies))
            for record in _run_cell(cell, samples, progress):
                if earlier.has(record):
                    continue
                yield record
                done.append(record)
                progress.advance(record)
        made = [*earlier.records, *done]
        for line in save_table(folder, cell_settings.name, task, adapter.model_name, made):
            progress.say(line)
        del adapter, task, cell
        gc.collect()  # the next model needs the room


def _run_cell(cell: Cell, samples: tuple[Sample, ...], progress: Progress) -> Iterator[Record]:
    if not is_acting(cell.task):
        return answer_samples(cell, samples)

    def on_step(step: int, alive: int) -> None:
        progress.detail(f"step {step}, {alive} alive")

    return act_samples(cell, samples, on_step)


def _info(settings: ExperimentSettings, provenance: Provenance, job_type: str) -> RunInfo:
    tags = dict.fromkeys(
        tag
        for cell in settings.cells
        for tag in (
            f"adapter:{cell.adapter.name}",
            f"task:{cell.task.name}",
            *(f"policy:{policy.name}" for policy in cell.policies),
        )
    )
    return RunInfo(
        experiment=settings.name,
        job_type=job_type,
        config=settings.as_mapping(),
        provenance=provenance,
        tags=(*tags, "zero-shot") if job_type == "transfer" else tuple(tags),
        notes=_notes(settings),
    )


def _notes(settings: ExperimentSettings) -> tuple[str, ...]:
    """What the cards of the NAMMs and of the bundled models say about where they come from."""
    from namm_mm.models import cards
    from namm_mm.models import resolve as asset
    from namm_mm.policies import create

    notes = []
    for cell in settings.cells:
        for policy in cell.policies:
            network = getattr(create(policy.name, **policy.options), "network", None)
            card = getattr(network, "card", {})
            if card.get("about"):
                notes.append(f"{policy.name}: {card['about']}")
            learned = card.get("storage", cell.storage)
            if learned != cell.storage:
                notes.append(
                    f"{policy.name} in {cell.name}: its threshold was learned with storage "
                    f"{learned} and runs with {cell.storage}, where it keeps another part"
                )
    bundled = set(asset.bundled())
    for cell in settings.cells:
        model = cell.adapter.options.get("model")
        if model in bundled:
            kind = cards.read_card(cards.BUNDLED / str(model)).get("kind", "bundled model")
            notes.append(f"{model}: {kind}; its scores are not those of any published model")
    return tuple(dict.fromkeys(notes))


def _keep_networks(settings: ExperimentSettings, folder: Path, tracker: Tracker) -> None:
    """Keep every NAMM of the run with its card, so that its numbers can be made again."""
    from namm_mm.namm import Namm
    from namm_mm.namm.checkpoint import save
    from namm_mm.policies import create

    known: dict[str, int] = {}
    for cell in settings.cells:
        for policy in cell.policies:
            network = getattr(create(policy.name, **policy.options), "network", None)
            if not isinstance(network, Namm):
                continue
            source = str(policy.options.get("checkpoint", policy.name))
            if source in known:
                continue
            known[source] = len(known)
            name = "namm" if not known[source] else f"namm-{known[source]}"
            file = save(network, folder / "artifacts" / name / "namm.safetensors")
            files = [file, file.with_suffix(".json")]
            tracker.artifact(name, files, "model", dict(network.card))


def _write_config(folder: Path, settings: ExperimentSettings) -> None:
    import yaml

    text = yaml.safe_dump(settings.as_mapping(), sort_keys=False, allow_unicode=True)
    (folder / CONFIG).write_text(f"# config hash {settings.config_hash}\n{text}", encoding="utf-8")
