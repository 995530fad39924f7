"""What makes a record this one and no other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from namm_mm.records import Record


class Key(NamedTuple):
    """Identity of a record: which sample, under which policy, in which cell."""

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
    return Key(
        adapter=record.adapter,
        model=record.model,
        task=record.task,
        dataset=record.dataset,
        policy=record.policy,
        budget=record.budget,
        storage=record.storage,
        protocol=record.protocol,
        interval=record.interval,
        sample=record.sample,
        seed=record.seed,
    )


def unique(records: Iterable[Record]) -> list[Record]:
    """Return each record once, the first of each key, in their order."""
    found: dict[Key, Record] = {}
    for record in records:
        found.setdefault(key_of(record), record)
    return list(found.values())
