"""What an experiment is, as frozen dataclasses, and how a plain mapping becomes one.

:func:`from_mapping` takes what YAML or Python gives, checks all of it before any model loads, and
raises one :class:`~namm_mm.errors.UsageError` that lists every problem.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from namm_mm.execution.settings import SERIAL, ExecutionSettings
from namm_mm.policies.preferences import INTERVAL, STORAGE
from namm_mm.registry.reader import Choice

WANDB_MODES = ("offline", "online", "disabled")

ELSEWHERE = ("output", "wandb", "shard", "folder", "execution")
"""Keys that no number depends on: where a run goes, and what runs it."""

OWN_BUDGET = "own"
"""The budget of a policy that brings its rule with it: the full cache, or a NAMM's threshold."""


@dataclass(frozen=True)
class PolicySettings:
    """One policy under one budget.

    Attributes
    ----------
    name, options
        What :func:`namm_mm.policies.create` takes.
    budget
        Words of :mod:`namm_mm.policies.budgets`, or ``own``: the rule that the policy brings.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: str = OWN_BUDGET


@dataclass(frozen=True)
class CellSettings:
    """One adapter on one task under several policies.

    Attributes
    ----------
    name
        Name of the cell within the experiment: ``text``, ``video``, ``control``.
    interval
        Tokens between two evictions.
    limit
        At most so many samples per seed; None takes all.
    """

    name: str
    adapter: Choice
    task: Choice
    policies: tuple[PolicySettings, ...]
    interval: int = INTERVAL
    storage: str = STORAGE
    protocol: str = "streaming"
    split: str = "test"
    limit: int | None = None


@dataclass(frozen=True)
class Shard:
    """One part of a run's samples: the `index`-th of `count`, counted from 1."""

    index: int
    count: int

    @property
    def words(self) -> str:
        """As a configuration says it: ``1/4``."""
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class ExperimentSettings:
    """All that a run needs to be made again.

    Attributes
    ----------
    output
        Parent of the run folder ``OUTPUT/NAME/TIME``.
    wandb
        ``offline``, ``online`` or ``disabled``; None asks ``WANDB_MODE``, and is offline without.
    shard
        The part of the samples to run; None is all of them.
    folder
        The run folder, new or to be gone on with; None makes a new one under `output`.
    execution
        What runs the samples: this process, or workers. Records do not depend on it.
    """

    name: str
    cells: tuple[CellSettings, ...]
    seeds: tuple[int, ...] = (0,)
    output: Path = Path("runs")
    wandb: str | None = None
    shard: Shard | None = None
    folder: Path | None = None
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)

    def as_mapping(self) -> dict[str, Any]:
        """Return the resolved settings as plain values; :func:`from_mapping` reads them back."""
        cells = {}
        for cell in self.cells:
            plain = {k: v for k, v in asdict(cell).items() if k != "name"}
            plain["adapter"] = {"name": cell.adapter.name, **cell.adapter.options}
            plain["task"] = {"name": cell.task.name, **cell.task.options}
            plain["policies"] = [
                {"name": p.name, **p.options, "budget": p.budget} for p in cell.policies
            ]
            cells[cell.name] = plain
        return {
            "name": self.name,
            "seeds": list(self.seeds),
            "output": self.output.as_posix(),
            "wandb": self.wandb,
            **({"shard": self.shard.words} if self.shard is not None else {}),
            **({"folder": self.folder.as_posix()} if self.folder is not None else {}),
            **({"execution": self.execution.as_mapping()} if self.execution.name != SERIAL else {}),
            "cells": cells,
        }

    @property
    def config_hash(self) -> str:
        """SHA-256 of the canonical JSON of everything that a number may depend on."""
        plain = self.as_mapping()
        for key in ELSEWHERE:
            plain.pop(key, None)
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
