"""Evolution of a NAMM with CMA-ES: the strategies, the fitness, the stages and the loop."""

from namm_mm.evolution.cma_es import CmaEs
from namm_mm.evolution.sep_cma import SepCma
from namm_mm.evolution.strategy import Best, Strategy

__all__ = ["Best", "CmaEs", "SepCma", "Strategy"]
