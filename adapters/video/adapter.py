"""Video: multiple choice and free answers by the LLaVA video models of transformers."""

from __future__ import annotations

from dataclasses import dataclass

from namm_mm.adapters.video.clips import ClipAdapter
from namm_mm.adapters.video.frames_adapter import FramesAdapter, Shown
from namm_mm.adapters.video.loading import LoadedVideoModel
from namm_mm.records import Sample


@dataclass
class LlavaVideoAdapter(ClipAdapter[LoadedVideoModel], FramesAdapter):
    """Runs LlavaNextVideo, LlavaOnevision, VideoLlava or LLaVA-Video on questions about files.

    Further options are those of :class:`namm_mm.adapters.video.clips.ClipAdapter` and of
    :class:`namm_mm.adapters.video.frames_adapter.FramesAdapter`.

    Parameters
    ----------
    time_instruction
        Tell the model how long the video is and when its frames were, as LLaVA-Video was tuned.
    """

    model: str = "pocket_video"
    time_instruction: bool = False

    @property
    def tells_times(self) -> bool:
        """Whether the prompt says how long the video is and when its frames were."""
        return self.time_instruction

    def shown(self, sample: Sample, marks: int) -> Shown:
        """Read the frames; see :class:`namm_mm.adapters.video.frames_adapter.FramesAdapter`."""
        return Shown.of_clip(self.clip(sample, marks), self.loaded)
