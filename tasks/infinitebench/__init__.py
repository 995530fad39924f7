"""InfiniteBench: twelve tasks of 100,000 tokens and more."""

from namm_mm.tasks.infinitebench.task import InfiniteBenchTask

__all__ = ["InfiniteBenchTask"]
