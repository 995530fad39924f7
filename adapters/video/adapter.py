"""Video: multiple choice and free answers by the LLaVA video models of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from namm_mm.adapters.common.multimodal import check_known, check_positive
from namm_mm.adapters.video.frames_adapter import FramesAdapter, Shown
from namm_mm.errors import RunError, UsageError, message
from namm_mm.records import Sample
from namm_mm.records.shape import TEXT, VIDEO
from namm_mm.video import BACKENDS, SAMPLINGS, Clip, sample_frames


@dataclass
class LlavaVideoAdapter(FramesAdapter):
    """Runs LlavaNextVideo, LlavaOnevision, VideoLlava or LLaVA-Video on questions about files.

    Further options are those of :class:`namm_mm.adapters.video.frames_adapter.FramesAdapter`.

    Parameters
    ----------
    frames
        How many frames to sample from a file; a shorter file gives all it has.
    min_frames
        The sample of a file with fewer frames fails.
    sampling
        ``even``, ``ends`` or ``stride``: see :func:`namm_mm.video.spread`.
    time_instruction
        Tell the model how long the video is and when its frames were, as LLaVA-Video was tuned.
    decoder
        Backend of :func:`namm_mm.video.sample_frames`: ``auto``, ``decord`` or ``pyav``.

    Raises
    ------
    UsageError
        An option is wrong.
    """

    reads: ClassVar[frozenset[str]] = frozenset({TEXT, VIDEO})
    requires: ClassVar[frozenset[str]] = frozenset({VIDEO})

    frames: int = 32
    min_frames: int = 1
    sampling: str = "even"
    time_instruction: bool = False
    decoder: str = "auto"

    def __post_init__(self) -> None:
        check_known(
            sampling=(self.sampling, SAMPLINGS),
            decoder=(self.decoder, ("auto", *BACKENDS)),
        )
        super().__post_init__()
        check_positive(frames=self.frames, min_frames=self.min_frames)

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the model is run, for every record."""
        own = {"frames_wanted": self.frames, "sampling": self.sampling}
        return {**own, **super().facts}

    @property
    def tells_times(self) -> bool:
        """Whether the prompt says how long the video is and when its frames were."""
        return self.time_instruction

    def shown(self, sample: Sample, marks: int) -> Shown:
        """Read the frames; see :class:`namm_mm.adapters.video.frames_adapter.FramesAdapter`."""
        if sample.video is None:
            raise UsageError(
                message(f"sample {sample.id!r} has no video", given=None, expected="a video file")
            )
        clip = self._clip(sample, marks)
        pixels = self.loaded.preprocess(clip.frames)
        details = {"frames_seen": len(pixels), "video_seconds": round(clip.seconds, 3)}
        return Shown(pixels, details, clip)

    def _clip(self, sample: Sample, marks: int) -> Clip:
        """Return the sampled frames: as many as the prompt has places for, where it has some."""
        if marks > self.frames:
            raise UsageError(
                message(
                    f"the prompt of sample {sample.id!r} has more places for frames than are "
                    "sampled",
                    given=f"{marks} places, adapter.frames={self.frames}",
                    expected="equal numbers",
                    then=f"Set adapter.frames={marks}, or task.frames={self.frames}.",
                )
            )
        count = marks or self.frames
        path = sample.video or ""
        clip = sample_frames(path, count, backend=self.decoder, sampling=self.sampling)
        least = max(marks, self.min_frames)
        if len(clip.frames) < least:
            raise RunError(
                message(
                    f"the video {str(sample.video)!r} is too short",
                    given=f"{len(clip.frames)} frames",
                    expected=f"at least {least}",
                    then="adapter.min_frames says how many are needed.",
                )
            )
        return clip
