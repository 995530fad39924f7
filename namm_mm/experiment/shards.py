"""Shards of a run: its samples, split over processes.

What the samples depend on does not depend on the split: shards of one run have one configuration
hash, and only such are joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from namm_mm.experiment.settings import ELSEWHERE, Shard
from namm_mm.records import Sample
from namm_mm.registry.differences import differences
from namm_mm.runs.state import read_state


def in_shard(samples: Sequence[Sample], shard: Shard | None) -> tuple[Sample, ...]:
    """Return the samples of one shard: every n-th, so that families stay balanced."""
    return tuple(samples if shard is None else samples[shard.index - 1 :: shard.count])


def describe(folder: Path) -> tuple[str | None, str | None]:
    """Configuration hash and shard of a run folder; None for what it does not say."""
    state = read_state(folder)
    shard = state.config.get("shard")
    return state.provenance.get("config_hash"), str(shard) if shard else None


def changed_settings(config: Mapping[str, Any], folder: Path) -> list[str]:
    """Return what a number may depend on and differs from `config` in a run folder.

    Returns
    -------
    list
        Words such as ``cells.text.limit: 60 -> 61``, the folder's value second.
    """
    return differences(*(_compared(one) for one in (config, read_state(folder).config)))


def only_adds(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether `config` is what a run folder was begun with, and more cells and policies beside."""
    wanted, found = (_compared(one) for one in (config, read_state(folder).config))
    begun, cells = found.get("cells", {}), wanted.get("cells", {})
    if not begun.keys() <= cells.keys():
        return False
    known = {}
    for name, cell in begun.items():
        there = cell.get("policies", [])
        known[name] = {
            **cells[name],
            "policies": [p for p in there if p in cells[name]["policies"]],
        }
    return not differences({**wanted, "cells": known}, found)


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ELSEWHERE}
