"""Start the engine that runs the units."""

from __future__ import annotations

from namm_mm.execution.base import Execution, Factory, Results, U, Work
from namm_mm.execution.progress import Progress, Silent
from namm_mm.execution.ray import RayExecution
from namm_mm.execution.serial import Serial
from namm_mm.execution.settings import SERIAL, ExecutionSettings


def start(
    settings: ExecutionSettings,
    factory: Factory[U],
    journal: Results,
    *,
    here: Work[U] | None = None,
    progress: Progress | None = None,
) -> Execution[U]:
    """Start an engine.

    Parameters
    ----------
    settings
        Which one.
    factory
        Makes the work where it is done. Picklable for ``ray``.
    journal
        Of finished units; it stays with the caller.
    here
        The work, where this process has made it already; ``serial`` then takes it.
    progress
        Is told when a worker is lost.

    Raises
    ------
    RunError
        Ray cannot start, or its cluster cannot be reached.
    """
    if settings.name == SERIAL:
        return Serial(here if here is not None else factory(), journal)
    return RayExecution(factory, journal, settings, progress or Silent())
