"""How units of work are run, each finished one journaled by its content: serially, or by Ray."""

from namm_mm.execution.base import Execution, Factory, Unit, Work
from namm_mm.execution.journal import Journal, Results
from namm_mm.execution.serial import Serial
from namm_mm.execution.settings import ExecutionSettings
from namm_mm.execution.start import start

__all__ = [
    "Execution",
    "ExecutionSettings",
    "Factory",
    "Journal",
    "Results",
    "Serial",
    "Unit",
    "Work",
    "start",
]
