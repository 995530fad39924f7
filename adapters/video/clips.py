"""The base of adapters that read a video file: which frames are sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from namm_mm.adapters.common.multimodal import (
    Loaded,
    MultimodalAdapter,
    check_known,
    check_positive,
)
from namm_mm.errors import RunError, UsageError, message
from namm_mm.records import Sample
from namm_mm.records.shape import TEXT, VIDEO
from namm_mm.video import BACKENDS, SAMPLINGS, Clip, sample_frames


@dataclass
class ClipAdapter(MultimodalAdapter[Loaded]):
    """Samples the frames of a sample's video.

    Parameters
    ----------
    frames
        How many frames to sample from a file; a shorter file gives all it has.
    min_frames
        The sample of a file with fewer frames fails.
    sampling
        ``even``, ``ends`` or ``stride``: see :func:`namm_mm.video.spread`.
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

    def clip(self, sample: Sample, marks: int = 0) -> Clip:
        """Return the sampled frames: as many as the prompt has places for, where it has some.

        Raises
        ------
        UsageError
            The sample has no video, or its prompt has too many places.
        RunError
            The video is damaged or too short.
        """
        if sample.video is None:
            raise UsageError(
                message(f"sample {sample.id!r} has no video", given=None, expected="a video file")
            )
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
        clip = sample_frames(sample.video, count, backend=self.decoder, sampling=self.sampling)
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
