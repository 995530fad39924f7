"""Frames of video files: which ones, when they are shown, and that they are the right ones.

A clip has the frames that ffmpeg itself decodes, in its order, upright, at its times, for every
file that ffmpeg reads without a complaint. Any other file is an error. PyAV decodes; decord decodes
long files where a look at the container proves that it gives the same frames.
"""

from __future__ import annotations

from namm_mm.video.clip import Clip
from namm_mm.video.length import frame_count
from namm_mm.video.reading import BACKENDS, available_backends, sample_frames
from namm_mm.video.sampling import SAMPLINGS, spread, uniform_indices

__all__ = [
    "BACKENDS",
    "SAMPLINGS",
    "Clip",
    "available_backends",
    "frame_count",
    "sample_frames",
    "spread",
    "uniform_indices",
]
