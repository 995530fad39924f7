"""What can be known to be wrong before any model loads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from namm_mm.adapters import ADAPTERS
from namm_mm.adapters.base import ActingAdapter, Adapter
from namm_mm.errors import NammError, RunError, UsageError, message
from namm_mm.execution import settings as execution
from namm_mm.experiment.settings import (
    OWN_BUDGET,
    WINDOW,
    CellSettings,
    ExperimentSettings,
    PolicySettings,
)
from namm_mm.policies import budgets
from namm_mm.records.shape import ACTING, ANSWERING
from namm_mm.registry.reader import Choice
from namm_mm.registry.registry import Registry, build
from namm_mm.tasks import TASKS
from namm_mm.tasks.base import Task

if TYPE_CHECKING:
    from pathlib import Path

    from namm_mm.policies.base import Policy

T = TypeVar("T")


def problems(settings: ExperimentSettings) -> Iterator[str]:
    """Yield one sentence or two for everything that is wrong."""
    yield from output_problems(settings.output)
    yield from execution.problems(settings.execution)
    elsewhere = settings.execution.address is not None
    for cell in settings.cells:
        yield from _components(cell, elsewhere=elsewhere)
        yield from _policies(cell)


def output_problems(folder: Path) -> Iterator[str]:
    """Look at the nearest parent that exists: nothing is created for a run that may not start."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        why = "is not writable" if place.is_dir() else "is not a folder"
        yield message(
            "the output folder cannot be written",
            given=str(folder),
            expected=f"a folder that you may write to ({place.name!r} {why})",
            then="Choose another one with `output=FOLDER`.",
        )


def _components(cell: CellSettings, *, elsewhere: bool) -> Iterator[str]:
    """Of a cell that runs `elsewhere`, on a cluster, what this machine lacks may be there."""
    adapter = try_build(ADAPTERS, cell.adapter)
    task = try_build(TASKS, cell.task)
    for kind, choice, built in (("adapter", cell.adapter, adapter), ("task", cell.task, task)):
        if not choice.name:  # said when the mapping was read
            continue
        if not elsewhere:
            yield from _device(cell, kind, choice)
        if isinstance(built, str):
            yield _at(cell, kind, built)
    for what in model_problems(cell.adapter):
        yield _at(cell, "adapter.model", what)
    if isinstance(adapter, Adapter) and isinstance(task, Task) and adapter.shape != task.shape:
        asks = {ACTING: "wants an agent for its environments", ANSWERING: "asks questions"}
        does = {ACTING: "acts in environments", ANSWERING: "answers questions"}
        yield _at(
            cell,
            "task",
            f"the task {cell.task.name!r} {asks[task.shape]}, but the adapter "
            f"{cell.adapter.name!r} {does[adapter.shape]}: expected two of one shape. "
            "`namm-mm list` shows which is which.",
        )


def try_build(registry: Registry[type[T]], choice: Choice) -> T | str:
    """Return the component, or what is wrong with it."""
    try:
        return build(registry, choice.name, choice.options)
    except NammError as error:
        return str(error)


def model_problems(adapter: Choice) -> Iterator[str]:
    """Look for a model of ours by name; whether its files are whole is seen when it loads."""
    from namm_mm.models.packaged import MODELS
    from namm_mm.models.resolve import resolve

    name = adapter.options.get("model")
    ours = adapter.name in ADAPTERS and ADAPTERS.source(adapter.name).startswith("namm_mm.")
    if not ours or not isinstance(name, str) or name in MODELS or "/" in name:
        return
    try:
        resolve(name)
    except UsageError as error:
        yield str(error)
    except RunError:  # said with the way to mend it, when the model loads
        return


def _device(cell: CellSettings, kind: str, choice: Choice) -> Iterator[str]:
    device = str(choice.options.get("device", ""))
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            yield _at(
                cell,
                f"{kind}.device",
                message(
                    "CUDA is not available",
                    given=device,
                    expected="a device of this machine, such as cpu",
                    then="`namm-mm doctor` says what torch sees.",
                ),
            )


def _policies(cell: CellSettings) -> Iterator[str]:
    runs = [(policy.name, policy.budget) for policy in cell.policies]
    for name, budget in {run for run in runs if runs.count(run) > 1}:
        yield _at(cell, "policies", f"{name!r} with budget {budget!r} is listed twice.")
    for policy in cell.policies:
        if policy.name:
            yield from _policy(cell, policy)


def _policy(cell: CellSettings, settings: PolicySettings) -> Iterator[str]:
    from namm_mm import policies

    try:
        policy = policies.create(settings.name, **settings.options)
    except NammError as error:
        yield _at(cell, "policies", str(error))
        return
    if policy.needs is not None:
        try:
            policy.needs.check_interval(cell.interval)
        except UsageError as error:
            yield _at(cell, "interval", str(error))
    if settings.name == WINDOW:
        yield from _window(cell, settings)
    else:
        yield from _budget(cell, settings, policy)


def _window(cell: CellSettings, settings: PolicySettings) -> Iterator[str]:
    built = try_build(ADAPTERS, cell.adapter)
    if isinstance(built, Adapter) and not (isinstance(built, ActingAdapter) and built.reencodes):
        yield _at(
            cell,
            "policies",
            message(
                f"{WINDOW!r} encodes its tokens anew for every decision",
                given=cell.adapter.name,
                expected="an adapter for control that can, such as decision_transformer",
                then="`recency` with sinks=0 is a window of cached tokens.",
            ),
        )
    if settings.budget != OWN_BUDGET and not settings.budget.startswith("tokens:"):
        yield _at(
            cell,
            f"budget of {WINDOW!r}",
            message(
                "nothing is evicted",
                given=settings.budget,
                expected="the size of the window: tokens:60 for 20 steps",
            ),
        )


def _budget(cell: CellSettings, settings: PolicySettings, policy: Policy) -> Iterator[str]:
    if settings.budget == OWN_BUDGET:
        return
    traced = [p.name for p in traceable(cell.policies)]
    followed = budgets.matched_policy(settings.budget)
    if followed is not None and followed not in traced:
        yield _at(
            cell,
            "budgets",
            message(
                f"nothing to match for {settings.name!r}",
                given=settings.budget,
                expected="match: and a policy of the same cell that has a budget of its own",
                valid=traced,
                then="Add that policy, or give a size: tokens:64, fraction:0.25.",
            ),
        )
    elif followed is None:
        try:
            budgets.parse(settings.budget)
        except NammError as error:
            yield _at(cell, f"budget of {settings.name!r}", str(error))
        if settings.budget.startswith("pool:") and cell.storage != "per_head":
            yield _at(
                cell,
                f"budget of {settings.name!r}",
                message(
                    "heads cannot share a budget where all keep the same number",
                    given=f"{settings.budget} with storage {cell.storage}",
                    expected="storage per_head",
                    then="Set storage=per_head, or take fraction:F.",
                ),
            )


def traceable(policies: tuple[PolicySettings, ...]) -> tuple[PolicySettings, ...]:
    """Policies whose sizes others can match: they follow nobody, and evict."""
    return tuple(
        policy
        for policy in policies
        if budgets.matched_policy(policy.budget) is None
        and policy.budget != "full"
        and policy.name not in ("full", WINDOW)
    )


def _at(cell: CellSettings, key: str, what: str) -> str:
    return f"cells.{cell.name}.{key}: {what}"
