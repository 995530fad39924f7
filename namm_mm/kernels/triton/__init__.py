"""The kernels in Triton. With ``TRITON_INTERPRET=1`` they run on a CPU, for tests."""

from namm_mm.kernels.triton.attention import attend, attends
from namm_mm.kernels.triton.folding import fold, observes

__all__ = ["attend", "attends", "fold", "observes"]
