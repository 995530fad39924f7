"""Frames from a video file: decord where it is installed, PyAV otherwise.

Both decode the same pixels; a test holds them to it. A file that cannot give every frame that was
asked for raises an error rather than a shorter or a repeated clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from namm_mm.errors import RunError, UsageError, message

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKENDS = ("decord", "pyav")


@dataclass(frozen=True)
class Clip:
    """Frames that were sampled from a file.

    Attributes
    ----------
    frames
        (frame, height, width, 3) uint8, RGB.
    timestamps
        (frame,) float64: presentation time of each frame in seconds.
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


class _Decoded(NamedTuple):
    frames: NDArray[np.uint8]
    timestamps: NDArray[np.float64]
    indices: NDArray[np.int64]
    total: int
    rate: float


SAMPLINGS = ("even", "ends", "stride")
"""How frames are spread over a file, see :func:`spread`."""


def spread(total: int, count: int, sampling: str = "even") -> NDArray[np.int64]:
    """Indices of `count` frames of `total`; where `total` is smaller, each frame once.

    ``even`` is :func:`uniform_indices`; ``ends`` goes from the first to the last frame, as the
    evaluation code of the LLaVA models does; ``stride`` takes every ``floor(total / count)``-th, as
    LongVideoBench does.
    """
    if sampling == "ends":
        return np.linspace(0, max(total - 1, 0), min(total, count)).astype(np.int64)
    if sampling == "stride":
        count = min(total, count)
        return np.arange(count, dtype=np.int64) * (total // max(count, 1))
    return uniform_indices(total, count)


def uniform_indices(total: int, count: int) -> NDArray[np.int64]:
    """Indices of `count` frames spread evenly over `total`: ``floor(i * total / count)``.

    That is the sampling of the Hugging Face video processors. Where `total` is smaller than
    `count`, each frame comes once.
    """
    count = min(total, count)
    return np.arange(count, dtype=np.int64) * total // max(count, 1)


def available_backends() -> tuple[str, ...]:
    """The decoders that are installed, in order of preference."""
    modules = {"decord": "decord", "pyav": "av"}
    return tuple(name for name in BACKENDS if find_spec(modules[name]) is not None)


def sample_frames(
    path: str | Path, count: int, *, backend: str = "auto", sampling: str = "even"
) -> Clip:
    """Read `count` frames, spread evenly over a video.

    Parameters
    ----------
    path
        Any file that FFmpeg reads.
    count
        How many frames; a shorter video gives all it has, and the clip says so.
    backend
        ``decord``, ``pyav``, or ``auto``: decord if it is installed and can read the file, else
        PyAV.
    sampling
        One of :data:`SAMPLINGS`.

    Returns
    -------
    Clip
        The frames, in order of time.

    Raises
    ------
    UsageError
        `count` is below 1, or the backend or the sampling is unknown or not installed.
    RunError
        The file is missing, truncated or corrupt, or holds no video frames.
    """
    if count < 1:
        raise UsageError(message("wrong number of frames", given=count, expected="at least 1"))
    if sampling not in SAMPLINGS:
        raise UsageError(
            message("unknown sampling", given=sampling, expected="a known one", valid=SAMPLINGS)
        )
    installed = available_backends()
    if backend != "auto" and backend not in BACKENDS:
        raise UsageError(
            message(
                "unknown video backend",
                given=backend,
                expected="auto, or the name of a decoder",
                valid=BACKENDS,
            )
        )
    if not installed or (backend != "auto" and backend not in installed):
        raise UsageError(
            message(
                "video backend not installed",
                given=backend,
                expected=f"one of {', '.join(installed) or 'none that is installed'}",
                then="`pip install decord2 av` installs both; `namm-mm doctor` checks them.",
            )
        )
    file = Path(path)
    if not file.is_file():
        raise RunError(
            message(
                "no such video",
                given=str(file),
                expected="an existing video file",
                then="Check the path, or the `video` field of its question.",
            )
        )
    names = installed if backend == "auto" else (backend,)
    reason = ""
    for name in names:
        try:
            read = _READERS[name](file, count, sampling)
            return Clip(**read._asdict(), requested=count, backend=name)
        except RunError:
            raise
        except Exception as error:  # each decoder has errors of its own, few of them documented
            reason = (
                f"{name}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0][:160]}"
            )
    raise RunError(
        message(
            f"cannot read the video {str(file)!r} ({reason})",
            given=f"{file.stat().st_size} bytes",
            expected="a complete video file",
            then="It may be truncated or no video at all: copy or render it again, "
            "and see if `ffprobe` reads it.",
        )
    )


def _no_frames(path: Path, why: str) -> RunError:
    return RunError(
        message(
            f"the video {str(path)!r} has no frames",
            given=why,
            expected="a file with a video stream of at least one frame",
        )
    )


def _read_decord(path: Path, count: int, sampling: str) -> _Decoded:
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    total = len(reader)
    if total == 0:
        raise _no_frames(path, "a video stream of 0 frames")
    if total < _declared(path):
        raise ValueError(f"only {total} of {_declared(path)} frames are there")
    indices = spread(total, count, sampling)
    frames = reader.get_batch(indices.tolist()).asnumpy()
    times = np.asarray(reader.get_frame_timestamp(indices.tolist()), dtype=np.float64)[:, 0]
    return _Decoded(frames, times, indices, total, float(reader.get_avg_fps()))


def _declared(path: Path) -> int:
    """How many frames the header promises; 0 if it does not say. Tells a file that was cut off."""
    if find_spec("av") is None:
        return 0
    import av

    with av.open(str(path)) as container:
        return max((int(stream.frames) for stream in container.streams.video), default=0)


def _read_pyav(path: Path, count: int, sampling: str) -> _Decoded:
    import av

    with av.open(str(path)) as container:
        if not container.streams.video:
            raise _no_frames(path, "no video stream")
        stream = container.streams.video[0]
        declared = int(stream.frames)
        rate = float(stream.average_rate or 0.0)
        total = sum(packet.size > 0 for packet in container.demux(stream))
    if total < declared:
        raise ValueError(f"only {total} of {declared} frames are there")
    if total == 0:
        raise _no_frames(path, "a video stream of 0 frames")
    indices = spread(total, count, sampling)
    wanted = set(indices.tolist())
    frames, moments = [], []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                frames.append(frame.to_ndarray(format="rgb24"))
                moments.append(float(frame.time or 0.0))
                if len(frames) == len(wanted):
                    break
    if len(frames) < len(wanted):
        raise ValueError(f"only {len(frames)} of {len(wanted)} frames could be decoded")
    times = np.asarray(moments, dtype=np.float64)
    return _Decoded(np.stack(frames), times, indices, total, rate)


_READERS: dict[str, Callable[[Path, int, str], _Decoded]] = {
    "decord": _read_decord,
    "pyav": _read_pyav,
}
