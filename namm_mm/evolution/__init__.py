"""Evolution of a parameter vector: strategies that propose candidates and learn what is fit."""

from namm_mm.evolution.cma_es import CmaEs
from namm_mm.evolution.sep_cma import SepCma
from namm_mm.evolution.strategy import Best, Strategy

__all__ = ["Best", "CmaEs", "SepCma", "Strategy"]
