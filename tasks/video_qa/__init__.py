"""Questions about videos: generated ones, or a folder of the user's own."""

from __future__ import annotations

from namm_mm.tasks.video_qa.task import VideoQaTask

__all__ = ["VideoQaTask"]
