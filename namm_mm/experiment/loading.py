"""What a cell needs before it runs: its adapter and task, its samples, its device."""

from __future__ import annotations

from namm_mm.adapters import ADAPTERS
from namm_mm.adapters.base import Adapter
from namm_mm.errors import UsageError, message
from namm_mm.execution.progress import Progress
from namm_mm.experiment.settings import CellSettings, ExperimentSettings
from namm_mm.records import Sample
from namm_mm.registry.registry import build
from namm_mm.tasks import TASKS
from namm_mm.tasks.base import Task


def make(settings: CellSettings) -> tuple[Adapter, Task]:
    """Build a cell's adapter and task; nothing heavy is read."""
    return make_adapter(settings), make_task(settings)


def make_adapter(settings: CellSettings) -> Adapter:
    """Build a cell's adapter; its model is not loaded."""
    return build(ADAPTERS, settings.adapter.name, settings.adapter.options)


def make_task(settings: CellSettings) -> Task:
    """Build a cell's task; its data are not read."""
    return build(TASKS, settings.task.name, settings.task.options)


def load(
    settings: CellSettings, progress: Progress, task: Task | None = None
) -> tuple[Adapter, Task]:
    """Build a cell's adapter and, where it is not given, its task; load the model.

    Raises
    ------
    UsageError
        The device is absent, or the model is of an unknown class.
    RunError
        Files of the model are missing or damaged.
    """
    adapter = make_adapter(settings)
    progress.say(f"{settings.name}: loading {adapter.model_name}")
    adapter.load()
    return adapter, make_task(settings) if task is None else task


def samples_of(task: Task, settings: CellSettings, seed: int) -> tuple[Sample, ...]:
    """All samples of a cell for one seed.

    Raises
    ------
    UsageError
        There is none.
    """
    samples = tuple(task.samples(settings.split, settings.limit, seed))
    if not samples:
        raise UsageError(
            message(
                f"cells.{settings.name}: the task has no sample",
                given=f"split {settings.split!r}, limit {settings.limit}",
                expected="at least one sample",
                then="Choose another split.",
            )
        )
    return samples


def device_of(settings: ExperimentSettings) -> str:
    """The device that the adapters ask for; ``auto`` is CUDA where there is one."""
    asked = {str(cell.adapter.options.get("device", "auto")) for cell in settings.cells}
    if asked == {"cpu"}:
        return "cpu"
    import torch

    named = sorted(device for device in asked if device.startswith("cuda"))
    return (named or ["cuda"])[0] if torch.cuda.is_available() else "cpu"
