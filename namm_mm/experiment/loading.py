"""What a cell needs before it runs: its adapter and task, its samples, its device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from namm_mm.errors import UsageError, message
from namm_mm.execution.progress import Progress
from namm_mm.experiment.settings import CellSettings
from namm_mm.records import Sample
from namm_mm.registry.registry import build

if TYPE_CHECKING:
    from namm_mm.experiment.settings import ExperimentSettings


def make(settings: CellSettings) -> tuple[Any, Any]:
    """Build a cell's adapter and task; nothing heavy is read."""
    from namm_mm.adapters import ADAPTERS
    from namm_mm.tasks import TASKS

    task = build(TASKS, settings.task.name, settings.task.options)
    return build(ADAPTERS, settings.adapter.name, settings.adapter.options), task


def load(settings: CellSettings, progress: Progress) -> tuple[Any, Any]:
    """Build a cell's adapter and task, and load the model."""
    adapter, task = make(settings)
    progress.say(f"{settings.name}: loading {adapter.model_name}")
    adapter.load()
    return adapter, task


def samples_of(task: Any, settings: CellSettings, seed: int) -> tuple[Sample, ...]:
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
