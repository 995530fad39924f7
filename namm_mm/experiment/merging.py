"""Join the shards of a run: records, the files that they name, and the tables of benchmarks."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from namm_mm.adapters import ADAPTERS
from namm_mm.errors import UsageError, message
from namm_mm.experiment.benchmarks import save_table
from namm_mm.experiment.reading import with_current_options
from namm_mm.experiment.shards import changed_settings, describe
from namm_mm.records import Record
from namm_mm.registry.reader import Reader
from namm_mm.registry.registry import build
from namm_mm.runs import history, pictures
from namm_mm.runs.config import write_config
from namm_mm.runs.disk import explained
from namm_mm.runs.jsonl import RECORDS, read_records
from namm_mm.runs.keys import unique
from namm_mm.runs.local import LocalTracker
from namm_mm.runs.lock import locked
from namm_mm.runs.state import read_state
from namm_mm.runs.tracker import RunInfo
from namm_mm.tasks import TASKS
from namm_mm.tasks.base import Task

BESIDE = (pictures.FOLDER, history.FOLDER, "artifacts")
"""Folders of a run whose files its records and report name; no two shards have one of a name."""


def merge(folders: Sequence[Path], target: Path) -> tuple[Record, ...]:
    """Join the shards of one run into a run folder of its own, with all that a whole run has.

    Parameters
    ----------
    folders
        One for each shard, in any order.
    target
        A folder that holds no run yet.

    Returns
    -------
    tuple
        All records, under the name and the provenance of the joined run.

    Raises
    ------
    UsageError
        They are shards of different runs, one is missing or not finished, or `target` is taken.
    RunError
        The disk of `target` is full.
    """
    if (target / RECORDS).exists():
        raise UsageError(
            message("the folder holds a run", given=str(target), expected="a new folder")
        )
    _check_shards(folders)
    with locked(target), explained(target):
        return _merge(folders, target)


def _merge(folders: Sequence[Path], target: Path) -> tuple[Record, ...]:
    states = [read_state(folder) for folder in folders]
    records = unique(record for folder in folders for record in read_records(folder)[0])
    if not records:
        raise UsageError("the shards hold no record at all: there is nothing to join.")
    of_shards = ("shard", "folder", "execution")
    config = {name: value for name, value in states[0].config.items() if name not in of_shards}
    provenance = dataclasses.replace(records[0].provenance, run=target.name, dtype="")
    joined = tuple(
        dataclasses.replace(
            record, provenance=dataclasses.replace(provenance, dtype=record.provenance.dtype)
        )
        for record in records
    )
    notes = dict.fromkeys(note for state in states for note in state.notes)
    info = RunInfo(
        experiment=states[0].experiment,
        job_type=states[0].job_type,
        config=config,
        provenance=provenance,
        tags=states[0].tags,
        notes=tuple(notes),
    )
    with LocalTracker(target, info) as tracker:
        for record in joined:
            tracker.record(record)
    write_config(target, config, str(states[0].provenance.get("config_hash")))
    for folder in folders:
        for name in BESIDE:
            if (folder / name).is_dir():
                shutil.copytree(folder / name, target / name, dirs_exist_ok=True)
    return joined


def tables(target: Path, records: Sequence[Record]) -> Iterator[str]:
    """Write the tables of a joined run's benchmarks, and yield them in words.

    Parameters
    ----------
    target
        Its folder.
    records
        All of them.
    """
    for name, cell in read_state(target).config.get("cells", {}).items():
        task, model = _components(cell)
        kind = cell["task"]["name"]
        found = {r.dataset for r in records if (r.task, r.model) == (kind, model)}
        dataset = found.pop() if len(found) == 1 else None  # data may be on another machine
        yield from save_table(target, name, task, model, records, dataset)


def _components(cell: Mapping[str, Any]) -> tuple[Task, str]:
    """The task of a cell as its configuration says it, and the name of its model."""
    reader = Reader(cell, "")
    task, adapter = (with_current_options(reader.choice(key)) for key in ("task", "adapter"))
    model = build(ADAPTERS, adapter.name, adapter.options).model_name
    return build(TASKS, task.name, task.options), model


def _check_shards(folders: Sequence[Path]) -> None:
    found = [describe(folder) for folder in folders]
    hashes = {config_hash for config_hash, _ in found}
    if len(hashes) != 1 or None in hashes:
        listed = ", ".join(f"{f.name}: {(h or 'unknown')[:12]}" for f, (h, _) in _pairs(folders))
        first = read_state(folders[0]).config
        told = [line for other in folders[1:] for line in changed_settings(first, other)]
        raise UsageError(
            message(
                "the runs have different settings",
                given=", ".join(dict.fromkeys(told)) or listed,
                expected="one configuration hash",
                then="`namm-mm report RUN RUN` shows different runs side by side.",
            )
        )
    words = [shard for _, shard in found]
    count = int((words[0] or "1/1").partition("/")[2])
    wanted = [f"{index}/{count}" for index in range(1, count + 1)]
    missing = [shard for shard in wanted if shard not in words]
    if missing or len(words) != count:
        raise UsageError(
            message(
                "the shards do not make a whole run",
                given=[shard or "no shard" for shard in words],
                expected=f"each of {', '.join(wanted)} once",
            )
        )
    unfinished = [f.name for f in folders if read_state(f).status != "ok"]
    if unfinished:
        raise UsageError(
            message(
                "a shard is not finished",
                given=unfinished,
                expected="shards that came to their end",
                then="Run its command again: it continues where it stopped.",
            )
        )


def _pairs(folders: Iterable[Path]) -> Iterator[tuple[Path, tuple[str | None, str | None]]]:
    return ((folder, describe(folder)) for folder in folders)
