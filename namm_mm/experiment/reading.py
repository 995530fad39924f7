"""Read an experiment from a plain mapping, and check all of it before a model loads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from namm_mm.errors import NammError, UsageError
from namm_mm.execution import settings as execution
from namm_mm.experiment import check
from namm_mm.experiment.checkpoints import with_checkpoint
from namm_mm.experiment.settings import (
    OWN_BUDGET,
    WANDB_MODES,
    CellSettings,
    ExperimentSettings,
    PolicySettings,
    Shard,
)
from namm_mm.policies import create
from namm_mm.policies.base import KeepAll, Threshold
from namm_mm.policies.preferences import INTERVAL, STORAGE
from namm_mm.records import PROTOCOLS, STORAGES
from namm_mm.registry.reader import Choice, Reader, listed
from namm_mm.tasks.base import SPLITS

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


CELL_DEFAULTS = ("policies", "budgets", "interval", "storage", "protocol", "split")
"""What a cell may leave to the experiment."""


CELL_KEYS = ("adapter", "task", "limit", *CELL_DEFAULTS)

EVALUATION_KEYS = (
    *(key for key in EXPERIMENT_KEYS if key != "cells"),
    *(key for key in CELL_KEYS if key not in ("limit", "policies", "budgets")),
    "policy",
    "budget",
)
"""What an evaluation takes: one cell with one policy."""

WINDOW_POLICY = "the policy `window`: {name: window, budget: tokens:60} encodes 20 steps anew"

GONE: Mapping[str, Mapping[str, str]] = {
    "decision_transformer": {"history": WINDOW_POLICY, "window": WINDOW_POLICY},
}
"""Options that adapters and tasks had in earlier versions, and what takes their place."""


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
    return _settings(data, [])


def _settings(data: Mapping[str, Any], problems: list[str]) -> ExperimentSettings:
    reader = Reader(data, "", problems)
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
    found = [*problems, *check.problems(settings)]
    if found:
        raise UsageError(listed(found))
    return settings


def from_evaluation(data: Mapping[str, Any]) -> ExperimentSettings:
    """Make settings of one adapter on one task under one policy, from the flat mapping of a cell.

    Parameters
    ----------
    data
        Keys of :data:`EVALUATION_KEYS`. ``budget`` holds for the policy whatever its own rule is;
        ``own`` or nothing leaves it that rule.

    Raises
    ------
    UsageError
        One message for all problems.
    """
    reader = Reader(data, "")
    reader.allow(EVALUATION_KEYS)
    rest = {key: value for key, value in reader.data.items() if key in EVALUATION_KEYS}
    cell: dict[str, Any] = {key: rest.pop(key) for key in ("adapter", "task") if key in rest}
    policy = rest.pop("policy", None)
    extra = {key: rest.pop(key, None) for key in ("budget", "checkpoint")}
    if isinstance(policy, Mapping) and policy.get("budget") is not None and extra["budget"]:
        reader.problem("budget", extra["budget"], "one budget: policy.budget is given, too")
    if policy is not None:
        cell["policies"] = [_evaluated(policy, extra)]
    task = cell.get("task")
    name = task.get("name") if isinstance(task, Mapping) else task
    return _settings({"name": "evaluate", **rest, "cells": {str(name): cell}}, reader.problems)


def _evaluated(policy: Any, extra: Mapping[str, Any]) -> Any:
    """The policy of an evaluation as one mapping: budget and checkpoint are options like others."""
    found = {"name": policy} if isinstance(policy, str) else policy
    if not isinstance(found, Mapping):
        return policy
    return {**found, **{key: value for key, value in extra.items() if value is not None}}


def _shard(reader: Reader) -> Shard | None:
    words = reader.data.get("shard")
    if words is None:
        return None
    index, _, count = str(words).partition("/")
    if index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count):
        return Shard(int(index), int(count))
    reader.problem("shard", words, "a part of the samples, 1/4 to 4/4 for four")
    return None


def _cell(name: str, data: Any, parent: Reader) -> CellSettings:
    reader = Reader(data, f"cells.{name}.", parent.problems)
    reader.allow(CELL_KEYS)
    inherited = {key: parent.data[key] for key in CELL_DEFAULTS if parent.data.get(key) is not None}
    reader.data = inherited | {k: v for k, v in reader.data.items() if v is not None}
    limits = [r.integer("limit", None, minimum=1) for r in (reader, parent)]
    policies = _policies(reader, parent.data.get("checkpoint"))
    interval, storage = preferences(policies)
    return CellSettings(
        name=name,
        adapter=_component(reader, "adapter"),
        task=_component(reader, "task"),
        policies=policies,
        interval=reader.integer("interval", interval, minimum=1) or interval,
        storage=reader.one_of("storage", STORAGES, storage),
        protocol=reader.one_of("protocol", PROTOCOLS, "streaming"),
        split=reader.one_of("split", SPLITS, "test"),
        limit=min((limit for limit in limits if limit is not None), default=None),
    )


def _component(reader: Reader, key: str) -> Choice:
    """An adapter or a task; an option of an earlier version is a problem that names the new way."""
    choice = reader.choice(key)
    gone = GONE.get(choice.name, {})
    for option in sorted(gone.keys() & choice.options.keys()):
        reader.problem(f"{key}.{option}", choice.options[option], gone[option])
    return with_current_options(choice)


def with_current_options(choice: Choice) -> Choice:
    """Return the choice without options of earlier versions, as a stored configuration needs it."""
    gone = GONE.get(choice.name, {})
    return Choice(choice.name, {k: v for k, v in choice.options.items() if k not in gone})


def _policies(reader: Reader, checkpoint: Any) -> tuple[PolicySettings, ...]:
    """Every policy under every budget; those that bring their own rule run once, under it."""
    found: list[PolicySettings] = []
    budgets = [str(b) for b in reader.sequence("budgets", (OWN_BUDGET,))]
    for given in reader.sequence("policies", ("full", "namm")):
        choice = reader.as_choice("policies", given)
        options = dict(choice.options)
        own = options.pop("budget", None)
        if checkpoint is not None:
            options = with_checkpoint(choice.name, options, str(checkpoint))
        words = [str(own)] if own is not None else _budgets_of(choice.name, options, budgets)
        found += [PolicySettings(choice.name, options, budget) for budget in words]
    return tuple(found)


def _budgets_of(name: str, options: Mapping[str, Any], budgets: list[str]) -> list[str]:
    """Which of the cell's `budgets` a policy runs under.

    A policy that keeps everything or has a threshold runs under its own rule. One that encodes its
    tokens anew has sizes in tokens alone, and its own where none is asked for.
    """
    try:
        policy = create(name, **options)
    except NammError:  # the check of the settings says it, with all other problems
        return [OWN_BUDGET]
    if policy.reencodes:
        return [size for size in budgets if size.startswith("tokens:")] or [OWN_BUDGET]
    return [OWN_BUDGET] if isinstance(policy.selection, KeepAll | Threshold) else budgets


def preferences(policies: Iterable[PolicySettings]) -> tuple[int, str]:
    """Interval and storage of a cell that names none: those that its policies were made for.

    Returns
    -------
    tuple
        The first interval and the first storage that a policy of the cell asks for;
        those of :mod:`namm_mm.policies.preferences` where none does.
    """
    interval = storage = None
    for settings in policies:
        try:
            policy = create(settings.name, **settings.options)
        except NammError:  # the check of the settings says it
            continue
        pooled = "per_head" if settings.budget.startswith(("pool", "heads:")) else None
        interval = interval or policy.interval
        storage = storage or pooled or policy.storage
    return interval or INTERVAL, storage or STORAGE
