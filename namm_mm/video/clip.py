"""What comes out of a video file, and the error if nothing right can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Clip:
    """Frames that were sampled from a file.

    Attributes
    ----------
    frames
        (frame, height, width, 3) uint8, RGB, upright.
    timestamps
        (frame,) float64: presentation time of each frame in seconds, from the start of the file.
    indices
        (frame,) int64: which frames of the file they are.
    total
        How many frames the file has.
    requested
        How many were asked for; more than ``len(frames)`` if the file has fewer.
    backend
        Who decoded: ``decord`` or ``pyav``.
    rate
        Frames of the file per second; 0 if it does not say.
    """

    frames: NDArray[np.uint8]
    timestamps: NDArray[np.float64]
    indices: NDArray[np.int64]
    total: int
    requested: int
    backend: str
    rate: float = 0.0

    @property
    def seconds(self) -> float:
        """Length of the video in seconds; 0 if its rate is not known."""
        return self.total / self.rate if self.rate else 0.0


class Decoded(NamedTuple):
    """What a decoder returns: the first four fields of :class:`Clip`."""

    frames: NDArray[np.uint8]
    timestamps: NDArray[np.float64]
    indices: NDArray[np.int64]
    total: int


class UnreadableError(Exception):
    """The file cannot give the frames that ffmpeg would give without a complaint; says why."""


class NoFramesError(UnreadableError):
    """The file is whole, but holds no video."""


class UnprovenError(Exception):
    """The way of reading is not known to be right for the file; another one may be."""
