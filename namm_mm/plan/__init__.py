"""Plans: what an experiment would run, download, need and take, before anything is fetched."""

from namm_mm.plan.devices import Device, local_device, named_device
from namm_mm.plan.planning import plan
from namm_mm.plan.plans import CellPlan, Plan
from namm_mm.plan.words import as_mapping, lines

__all__ = [
    "CellPlan",
    "Device",
    "Plan",
    "as_mapping",
    "lines",
    "local_device",
    "named_device",
    "plan",
]
