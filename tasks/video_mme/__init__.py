"""Video-MME (Fu et al. 2024, arXiv 2405.21075): short, medium and long videos of six domains."""

from __future__ import annotations

from namm_mm.tasks.video_mme.task import VideoMmeTask

__all__ = ["VideoMmeTask"]
