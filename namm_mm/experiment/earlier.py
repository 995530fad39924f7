"""Go on with a run: what its folder holds is not run again.

The records on disk are the truth. A run that is started again in its folder reads them, does what
is missing and nothing else. Policies and cells may be added.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from namm_mm.errors import UsageError, message
from namm_mm.experiment.cell import Cell, labels
from namm_mm.experiment.settings import ExperimentSettings
from namm_mm.experiment.shards import changed_settings, describe, only_adds
from namm_mm.policies import budgets
from namm_mm.records import Record, Sample
from namm_mm.runs.jsonl import RECORDS
from namm_mm.runs.keys import Key, key_of
from namm_mm.runs.load import read_run
from namm_mm.tasks.base import is_acting


class Earlier:
    """Records that a run folder holds already.

    Parameters
    ----------
    folder
        The run folder; nothing is in it at first.
    settings
        What is about to run.

    Attributes
    ----------
    name
        Name of the run; empty for a new one.
    records
        All of them, under this name.
    problems
        What was wrong with the file, one sentence each.

    Raises
    ------
    UsageError
        Other settings, or another shard, were begun in this folder.
    """

    def __init__(self, folder: Path, settings: ExperimentSettings) -> None:
        self.name = ""
        self.records: tuple[Record, ...] = ()
        self.problems: tuple[str, ...] = ()
        if (folder / RECORDS).is_file():
            _check_same_run(folder, settings)
            run = read_run(folder)
            self.name, self.records, self.problems = run.name, run.records, run.problems
        self._left = Counter(key_of(record) for record in self.records)
        self._there: dict[tuple[str, int], set[Key]] = {}

    def has(self, cell: str, record: Record) -> bool:
        """Whether the record of the cell of this name was there before :meth:`remaining`."""
        return key_of(record) in self._there.get((cell, record.seed), ())

    def remaining(self, cell: Cell, samples: Sequence[Sample]) -> tuple[Cell, tuple[Sample, ...]]:
        """Return what of a cell must run, so that nothing is missing.

        Asked once for each cell and seed, in their order: where two cells ask the same, each takes
        records of its own.

        Samples that lack a record are run under the policies that lack one and under those that
        they match. Of an acting task all samples are one batch.
        """
        if not self.records:
            return cell, tuple(samples)
        there = self._there[cell.settings.name, cell.seed] = set()
        missing: dict[tuple[str, str], list[Sample]] = {}
        for settings in cell.runs:
            names = labels(settings)
            lacking = missing[names] = []
            for sample in samples:
                key = self._key(cell, names, sample)
                if self._left[key]:
                    self._left[key] -= 1
                    there.add(key)
                else:
                    lacking.append(sample)
        needed = [policy for policy in cell.runs if missing[labels(policy)]]
        followed = {budgets.matched_policy(policy.budget) for policy in needed}
        policies = tuple(p for p in cell.settings.policies if p in needed or p.name in followed)
        chosen = dataclasses.replace(cell.settings, policies=policies)
        fewer = dataclasses.replace(cell, settings=chosen)
        if is_acting(cell.task):
            return fewer, tuple(samples) if needed else ()
        open_samples = {sample.id for found in missing.values() for sample in found}
        return fewer, tuple(sample for sample in samples if sample.id in open_samples)

    @staticmethod
    def _key(cell: Cell, names: tuple[str, str], sample: Sample) -> Key:
        return Key(
            adapter=cell.settings.adapter.name,
            model=cell.adapter.model_name,
            task=cell.settings.task.name,
            dataset=cell.dataset,
            policy=names[0],
            budget=names[1],
            storage=cell.settings.storage,
            protocol=cell.settings.protocol,
            interval=cell.settings.interval,
            sample=sample.id,
            seed=cell.seed,
        )


def _check_same_run(folder: Path, settings: ExperimentSettings) -> None:
    begun = describe(folder)
    wanted = (settings.config_hash, None if settings.shard is None else settings.shard.words)
    if begun in (wanted, (None, None)):
        return
    if begun[1] == wanted[1] and only_adds(settings.as_mapping(), folder):
        return
    if begun[0] == wanted[0]:
        raise UsageError(
            message(
                f"the run in {folder} has another part of the samples",
                given=wanted[1] or "the whole run",
                expected=begun[1] or "the whole run",
                then="Choose another folder with `folder=FOLDER`.",
            )
        )
    changed = changed_settings(settings.as_mapping(), folder)
    raise UsageError(
        f"the run in {folder} was started with other settings (now -> then):\n"
        + "\n".join(f"- {line}" for line in changed or ["they are not in its run.json"])
        + "\nexpected the same settings, with more cells or policies if you like, or another "
        "folder: `folder=FOLDER`."
    )
