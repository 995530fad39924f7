"""Parts of a run: split its samples over processes, and go on with a stopped part.

The records on disk are the truth. A part that is started again in its folder reads them, does what
is missing and nothing else. What the samples depend on does not depend on the split: parts of one
run have one configuration hash, and only such are joined.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from namm_mm.errors import UsageError, message
from namm_mm.policies import budgets
from namm_mm.records import Record, Sample
from namm_mm.tasks.base import is_acting

if TYPE_CHECKING:
    from namm_mm.experiment.cell import Cell
    from namm_mm.experiment.settings import ExperimentSettings, Shard


class Key(NamedTuple):
    """What makes a record this one and no other."""

    adapter: str
    model: str
    task: str
    dataset: str
    policy: str
    budget: str
    storage: str
    protocol: str
    interval: int
    sample: str
    seed: int


def key_of(record: Record) -> Key:
    """Return the key of a record."""
    return Key(*(getattr(record, name) for name in Key._fields))


def part(samples: Sequence[Sample], shard: Shard | None) -> tuple[Sample, ...]:
    """Samples of one part: every n-th, so that families stay balanced."""
    return tuple(samples if shard is None else samples[shard.index - 1 :: shard.count])


class Earlier:
    """Records that a run folder holds already.

    Parameters
    ----------
    folder
        The run folder; nothing is in it at first.
    settings
        What is about to run.

    Raises
    ------
    UsageError
        Other settings, or another part, were begun in this folder.
    """

    def __init__(self, folder: Path, settings: ExperimentSettings) -> None:
        from namm_mm.runs import read_records
        from namm_mm.runs.jsonl import RECORDS

        self.records: tuple[Record, ...] = ()
        if not (folder / RECORDS).is_file():
            return
        begun = describe(folder)
        wanted = (settings.config_hash, None if settings.shard is None else settings.shard.words)
        if begun not in (wanted, (None, None)):
            what = "settings" if begun[0] != wanted[0] else "shard"
            at = what != "settings"
            raise UsageError(
                message(
                    f"another run was begun in {folder}: its {what} differ",
                    given=wanted[at],
                    expected=begun[at] or "the whole run",
                    then="Choose another folder with `folder=FOLDER`.",
                )
            )
        self.records = tuple(read_records(folder)[0])
        self._keys = {key_of(record) for record in self.records}

    def has(self, record: Record) -> bool:
        """Whether this record was made before."""
        return bool(self.records) and key_of(record) in self._keys

    def remaining(self, cell: Cell, samples: Sequence[Sample]) -> tuple[Cell, tuple[Sample, ...]]:
        """What of a cell must run, so that nothing is missing.

        A sample of an answering task is run under all policies if it lacks one: those that match
        need what the matched policy kept. Of an acting task all samples are one batch, run under
        the policies that lack one and under those that they match.
        """
        if not self.records:
            return cell, tuple(samples)
        missing = {
            (settings.name, settings.budget): [
                sample for sample in samples if self._key(cell, settings, sample) not in self._keys
            ]
            for settings in cell.runs
        }
        if not is_acting(cell.task):
            open_samples = {sample.id for found in missing.values() for sample in found}
            return cell, tuple(sample for sample in samples if sample.id in open_samples)
        needed = [policy for policy in cell.runs if missing[policy.name, policy.budget]]
        followed = {budgets.matched_policy(policy.budget) for policy in needed}
        policies = tuple(p for p in cell.settings.policies if p in needed or p.name in followed)
        settings = dataclasses.replace(cell.settings, policies=policies)
        return dataclasses.replace(cell, settings=settings), tuple(samples) if needed else ()

    @staticmethod
    def _key(cell: Cell, settings: Any, sample: Sample) -> Key:
        return Key(
            adapter=cell.settings.adapter.name,
            model=cell.adapter.model_name,
            task=cell.settings.task.name,
            dataset=cell.dataset,
            policy=settings.name,
            budget=cell.budget_words(settings),
            storage=cell.settings.storage,
            protocol=cell.settings.protocol,
            interval=cell.settings.interval,
            sample=sample.id,
            seed=cell.seed,
        )


def describe(folder: Path) -> tuple[str | None, str | None]:
    """Configuration hash and part of a run folder; None for what it does not say."""
    from namm_mm.runs import read_state

    state = read_state(folder)
    shard = state.config.get("shard")
    return state.provenance.get("config_hash"), str(shard) if shard else None
