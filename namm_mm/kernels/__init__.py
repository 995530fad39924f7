"""Kernels for GPUs: attention over what each head holds, and the statistics of its weights.

:func:`chosen` is the only door: it gives what runs on a device, or None, and then the memory
computes in plain torch, which is the reference of every test.
"""

from namm_mm.kernels.choosing import Kernels, chosen
from namm_mm.kernels.regions import Regions

__all__ = ["Kernels", "Regions", "chosen"]
