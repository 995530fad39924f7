"""How units of work are run, serially or by Ray."""

from namm_mm.execution.base import Execution, Factory, Result, Results, Unit, Work
from namm_mm.execution.serial import Serial
from namm_mm.execution.settings import ExecutionSettings
from namm_mm.execution.start import start

__all__ = [
    "Execution",
    "ExecutionSettings",
    "Factory",
    "Result",
    "Results",
    "Serial",
    "Unit",
    "Work",
    "start",
]
