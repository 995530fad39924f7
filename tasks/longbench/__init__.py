"""LongBench: 21 published tasks on long English, Chinese and code texts, scored as published."""

from namm_mm.tasks.longbench.task import LongBenchTask

__all__ = ["LongBenchTask"]
