"""How units of work are run: one after the other, each finished one journaled by its content."""

from namm_mm.execution.journal import Journal
from namm_mm.execution.serial import Serial, Unit

__all__ = ["Journal", "Serial", "Unit"]
