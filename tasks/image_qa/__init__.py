"""Questions about pictures: generated ones, or a folder of the user's own."""

from __future__ import annotations

from namm_mm.tasks.image_qa.task import ImageQaTask

__all__ = ["ImageQaTask"]
