"""LongVideoBench (Wu et al. 2024, arXiv 2407.15754): long videos, with subtitles or without."""

from __future__ import annotations

from namm_mm.tasks.longvideobench.task import LongVideoBenchTask

__all__ = ["LongVideoBenchTask"]
