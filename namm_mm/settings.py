"""What an experiment is, as frozen dataclasses, and how a plain mapping becomes one.

:func:`from_mapping` takes what YAML or Python gives, checks all of it before any model loads, and
raises one :class:`~namm_mm.errors.UsageError` that lists every problem.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from namm_mm.errors import NammError, UsageError
from namm_mm.execution import settings as execution
from namm_mm.execution.settings import SERIAL, ExecutionSettings
from namm_mm.policies.base import KeepAll, Threshold
from namm_mm.reader import Choice, Reader
from namm_mm.records import PROTOCOLS, STORAGES

SPLITS = ("train", "validation", "test")
WANDB_MODES = ("offline", "online", "disabled")

WINDOW = "window"

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
        Words of :mod:`namm_mm.budgets`, or ``own``: the rule that the policy brings.
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
    interval: int = 128
    storage: str = "shared"
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
        for elsewhere in ("output", "wandb", "shard", "folder", "execution"):
            plain.pop(elsewhere, None)
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


EXPERIMENT_KEYS = (
    "name",
    "seeds",
    "output",
    "folder",
    "shard",
    "execution",
    "wandb",
    "limit",
    "checkpoint",
    "cells",
)
CELL_DEFAULTS = ("policies", "budgets", "storage", "protocol")
"""What a cell may leave to the experiment."""

CELL_KEYS = ("adapter", "task", "interval", "split", "limit", *CELL_DEFAULTS)


def from_mapping(data: Mapping[str, Any]) -> ExperimentSettings:
    """Make settings from plain values and check them all.

    Parameters
    ----------
    data
        Keys of :data:`EXPERIMENT_KEYS` and :data:`CELL_DEFAULTS`; ``cells`` maps a name to
        :data:`CELL_KEYS`. ``policies`` lists names or mappings with a `name`, options and perhaps a
        `budget`; ``budgets`` are those of every policy that has no rule of its own; ``checkpoint``
        is the one NAMM of all cells; ``limit`` cuts the samples of every cell.

    Raises
    ------
    UsageError
        One message for all problems: unknown keys and names, wrong values, impossible combinations.
    """
    from namm_mm import validation

    reader = Reader(data, "")
    reader.allow((*EXPERIMENT_KEYS, *CELL_DEFAULTS))
    cells = reader.mapping("cells", expected="at least one cell")
    settings = ExperimentSettings(
        name=reader.text("name", "experiment"),
        seeds=reader.integers("seeds", (0,)),
        output=Path(reader.text("output", "runs")).expanduser(),
        wandb=reader.one_of("wandb", WANDB_MODES, "") or None,
        shard=_shard(reader),
        folder=Path(reader.text("folder", "")).expanduser() if data.get("folder") else None,
        cells=tuple(_cell(name, cell, reader) for name, cell in cells.items()),
        execution=execution.read(reader),
    )
    problems = [*reader.problems, *validation.problems(settings)]
    if problems:
        raise UsageError(listed(problems))
    return settings


def from_evaluation(data: Mapping[str, Any]) -> ExperimentSettings:
    """Make settings of one adapter on one task under one policy, from the flat mapping of a cell.

    Parameters
    ----------
    data
        As for :func:`from_mapping`, with the keys of the only cell beside those of the experiment,
        and ``policy`` and ``budget`` for ``policies`` and ``budgets``.
    """
    data = dict(data)
    cell: dict[str, Any] = {
        key: data.pop(key) for key in ("adapter", "task", "interval", "split") if key in data
    }
    if "policy" in data:
        cell["policies"] = [_with_checkpoint(data.pop("policy"), data.pop("checkpoint", None))]
    if (budget := data.pop("budget", None)) is not None:
        cell["budgets"] = [budget]
    task = cell.get("task")
    name = task.get("name") if isinstance(task, Mapping) else task
    return from_mapping({"name": "evaluate", **data, "cells": {str(name): cell}})


def _with_checkpoint(policy: Any, checkpoint: Any) -> Any:
    """Of one policy alone, the experiment's checkpoint is an option like any other."""
    if checkpoint is None or not isinstance(policy, Mapping):
        return policy
    return {**policy, "checkpoint": checkpoint}


def _shard(reader: Reader) -> Shard | None:
    words = reader.data.get("shard")
    if words is None:
        return None
    index, _, count = str(words).partition("/")
    if index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count):
        return Shard(int(index), int(count))
    reader.problem("shard", words, "a part of the samples, 1/4 to 4/4 for four")
    return None


def listed(problems: Iterable[str]) -> str:
    """One message for one or many problems; one that several cells share is said once."""
    cells: dict[str, list[str]] = {}
    for problem in dict.fromkeys(problems):
        cell = re.match(r"cells\.([^.:]+)\.", problem)
        names = cells.setdefault(problem[cell.end() :] if cell else problem, [])
        names += [cell[1]] if cell else []
    found = [f"cells.{','.join(names)}.{rest}" if names else rest for rest, names in cells.items()]
    if len(found) == 1:
        return found[0]
    return "\n".join([f"{len(found)} problems in the configuration:", *(f"- {p}" for p in found)])


def _cell(name: str, data: Any, parent: Reader) -> CellSettings:
    reader = Reader(data, f"cells.{name}.", parent.problems)
    reader.allow(CELL_KEYS)
    inherited = {key: parent.data[key] for key in CELL_DEFAULTS if parent.data.get(key) is not None}
    reader.data = inherited | {k: v for k, v in reader.data.items() if v is not None}
    limits = [r.integer("limit", None, minimum=1) for r in (reader, parent)]
    return CellSettings(
        name=name,
        adapter=reader.choice("adapter"),
        task=reader.choice("task"),
        policies=_policies(reader, parent.data.get("checkpoint")),
        interval=reader.integer("interval", 128, minimum=1) or 128,
        storage=reader.one_of("storage", STORAGES, "shared"),
        protocol=reader.one_of("protocol", PROTOCOLS, "streaming"),
        split=reader.one_of("split", SPLITS, "test"),
        limit=min((limit for limit in limits if limit is not None), default=None),
    )


def _policies(reader: Reader, checkpoint: Any) -> tuple[PolicySettings, ...]:
    """Every policy under every budget; those that bring their own rule run once, under it.

    A window, which evicts nothing, has sizes in tokens alone: its own where none is asked for.
    """
    found: list[PolicySettings] = []
    budgets = [str(b) for b in reader.sequence("budgets", ("own",))]
    for given in reader.sequence("policies", ("full", "namm")):
        choice = reader.as_choice("policies", given)
        options = dict(choice.options)
        own = options.pop("budget", None)
        if choice.name == "namm" and checkpoint is not None:
            options.setdefault("checkpoint", checkpoint)
        if own is not None:
            words = [str(own)]
        else:
            words = [OWN_BUDGET] if _brings_its_rule(choice.name, options) else budgets
            if choice.name == WINDOW:
                words = [size for size in budgets if size.startswith("tokens:")] or [OWN_BUDGET]
        found += [PolicySettings(choice.name, options, budget) for budget in words]
    return tuple(found)


def _brings_its_rule(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a policy needs no budget: it keeps everything, or has a threshold."""
    from namm_mm.policies import create

    try:
        return isinstance(create(name, **options).selection, KeepAll | Threshold)
    except NammError:  # said by the validation, with all other problems
        return True
