"""What can be known to be wrong before any model loads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from namm_mm.adapters import ADAPTERS
from namm_mm.adapters.base import Adapter
from namm_mm.errors import NammError, UsageError, message
from namm_mm.execution import settings as execution
from namm_mm.experiment.check_policies import at, policy_problems
from namm_mm.experiment.settings import CellSettings, ExperimentSettings
from namm_mm.models.resolve import check_name
from namm_mm.records.shape import ACTING, ANSWERING
from namm_mm.registry.reader import Choice
from namm_mm.registry.registry import Registry, build
from namm_mm.tasks import TASKS
from namm_mm.tasks.base import Task

T = TypeVar("T")


def problems(settings: ExperimentSettings) -> Iterator[str]:
    """Yield one sentence or two for everything that is wrong."""
    yield from output_problems(settings.output)
    yield from execution.problems(settings.execution)
    elsewhere = settings.execution.address is not None
    for cell in settings.cells:
        yield from _components(cell, elsewhere=elsewhere)
        yield from policy_problems(cell)


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
            yield at(cell, kind, built)
    for what in model_problems(cell.adapter):
        yield at(cell, "adapter.model", what)
    if isinstance(adapter, Adapter) and isinstance(task, Task):
        yield from _match(cell, adapter, task)


def _match(cell: CellSettings, adapter: Adapter, task: Task) -> Iterator[str]:
    """Whether the adapter can do what the task asks: its shape, and what its samples hold."""
    who, what = f"the adapter {cell.adapter.name!r}", f"the task {cell.task.name!r}"
    then = "`namm-mm list` shows which adapters and tasks belong together."
    if adapter.shape != task.shape:
        asks = {ACTING: "wants an agent for its environments", ANSWERING: "asks questions"}
        does = {ACTING: "acts in environments", ANSWERING: "answers questions"}
        yield at(
            cell,
            "task",
            f"{what} {asks[task.shape]}, but {who} {does[adapter.shape]}: expected two of one "
            f"shape. {then}",
        )
    elif task.holds and adapter.reads is not None:
        unread = ", ".join(sorted(task.holds - adapter.reads))
        absent = ", ".join(sorted(adapter.requires - task.holds))
        if unread:
            said = f"the samples of {what} hold {unread}, which {who} does not read. {then}"
            yield at(cell, "task", said)
        if absent:
            said = f"{who} needs {absent} in every sample, and {what} has none. {then}"
            yield at(cell, "task", said)


def try_build(registry: Registry[type[T]], choice: Choice) -> T | str:
    """Return the component, or what is wrong with it."""
    try:
        return build(registry, choice.name, choice.options)
    except NammError as error:
        return str(error)


def model_problems(adapter: Choice) -> Iterator[str]:
    """Yield what is wrong with the name of a model of ours; what it lacks is seen before a run."""
    name = adapter.options.get("model")
    ours = adapter.name in ADAPTERS and ADAPTERS.source(adapter.name).startswith("namm_mm.")
    if ours and isinstance(name, str):
        try:
            check_name(name)
        except UsageError as error:
            yield str(error)


def _device(cell: CellSettings, kind: str, choice: Choice) -> Iterator[str]:
    device = str(choice.options.get("device", ""))
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            yield at(
                cell,
                f"{kind}.device",
                message(
                    "CUDA is not available",
                    given=device,
                    expected="a device of this machine, such as cpu",
                    then="`namm-mm doctor` says what torch sees.",
                ),
            )
