"""MLVU (Zhou et al. 2024, arXiv 2406.04264): multiple choice about long videos, by kind of task."""

from __future__ import annotations

from namm_mm.tasks.mlvu.task import MlvuTask

__all__ = ["MlvuTask"]
