"""Frames by PyAV: the whole file, or from the key frames before those that are wanted."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from namm_mm.video.clip import Decoded, NoFramesError, UnprovenError, UnreadableError
from namm_mm.video.messages import complaint, listening
from namm_mm.video.picture import Painter, display_matrix
from namm_mm.video.sampling import spread
from namm_mm.video.scan import Scan, opened, prepared

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from namm_mm.video.timing import Clock


def read_whole(scan: Scan, count: int, sampling: str) -> Decoded:
    """Decode every frame, and keep those that are wanted.

    How many frames there are is known at the end only; the packets tell it nearly always, and a
    file of another number of frames is decoded again.

    Raises
    ------
    UnreadableError
        A frame is damaged, by what libav says or marks.
    """
    total = scan.packets
    while True:
        wanted = spread(total, count, sampling)
        kept, times = _decode_whole(scan, set(wanted.tolist()))
        if not times:
            raise NoFramesError("a video stream of 0 frames")
        if len(times) == total:
            break
        total = len(times)
    return Decoded(np.stack(kept), np.asarray(times)[wanted], wanted, total)


def check_whole(scan: Scan) -> int:
    """Decode every frame, keep none, and return how many there are; errors as `read_whole`."""
    return len(_decode_whole(scan, set())[1])


def _decode_whole(scan: Scan, wanted: set[int]) -> tuple[list[NDArray[np.uint8]], list[float]]:
    """Return the wanted frames and the times of all."""
    kept: list[NDArray[np.uint8]] = []
    times: list[float] = []
    painter, clock = Painter(), scan.clock()
    with listening() as heard, opened(scan.path) as container:
        stream = prepared(_stream(container, scan))
        for frame in _frames(container, stream, clock):
            _check(frame, len(times))
            painter.see(frame)
            if len(times) in wanted:
                kept.append(painter.rgb(frame))
            times.append(clock.seconds(frame))
    wrong = complaint(heard, scan.codec)
    if wrong:
        raise UnreadableError(wrong)
    return kept, times


def read_seeking(scan: Scan, count: int, sampling: str) -> Decoded:
    """Decode from the nearest key frames.

    Raises
    ------
    UnprovenError
        The frames do not come in the order and at the times of their packets.
    UnreadableError
        A frame on the way is damaged.
    """
    total = len(scan.shown)
    wanted = spread(total, count, sampling)
    kept: list[NDArray[np.uint8]] = []
    painter = Painter()
    with listening() as heard, opened(scan.path) as container:
        stream = prepared(_stream(container, scan))
        at = -1  # index of the frame that came last
        frames: Iterator[VideoFrame] = iter(())
        for index in wanted.tolist():
            entry = _entry_before(scan, index)
            if at < 0 or entry > at:
                container.seek(scan.shown[entry], stream=stream)
                frames, at = _frames(container, stream), entry - 1
            while at < index:
                at += 1
                frame = _next_from(frames, scan.shown[entry])
                if frame.pts != scan.shown[at]:
                    raise UnprovenError(f"frame {at} is shown at another time than its packet")
                _check(frame, at)
                painter.see(frame)
            kept.append(painter.rgb(frame))
    wrong = complaint(heard, scan.codec)
    if wrong:
        raise UnreadableError(wrong)
    return Decoded(np.stack(kept), times_of(scan, wanted), wanted, total)


def first_frame(scan: Scan) -> VideoFrame:
    """Decode the first frame, which shows what packets do not: its format and how it is turned."""
    with opened(scan.path) as container:
        for frame in _frames(container, prepared(_stream(container, scan))):
            return frame
    raise NoFramesError("a video stream of 0 frames")


def is_plain(frame: VideoFrame) -> bool:
    """Whether a frame is upright, progressive, of 8 bits, with chroma of half the size."""
    return (
        frame.format.name in ("yuv420p", "yuvj420p")
        and not frame.interlaced_frame
        and not display_matrix(frame)
    )


def times_of(scan: Scan, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Seconds at which frames of a seekable file are shown."""
    return np.asarray([float((scan.shown[i] - scan.start) * scan.tick) for i in indices.tolist()])


def _entry_before(scan: Scan, index: int) -> int:
    """Index of the last frame at or before `index` from which decoding can start."""
    entry = scan.entries[bisect.bisect_right(scan.entries, scan.shown[index]) - 1]
    return bisect.bisect_left(scan.shown, entry)


def _next_from(frames: Iterator[VideoFrame], first: int) -> VideoFrame:
    """Return the next frame that is not one before the key frame at `first`."""
    for frame in frames:
        if frame.pts is None or frame.pts >= first:
            return frame
    raise UnprovenError("frames are missing")


def _stream(container: InputContainer, scan: Scan) -> VideoStream:
    return next(s for s in container.streams.video if s.index == scan.stream)


def _frames(
    container: InputContainer, stream: VideoStream, clock: Clock | None = None
) -> Iterator[VideoFrame]:
    """Yield frames in order of presentation; an empty packet in the middle is none."""
    for packet in container.demux(stream):
        if packet.size:
            if clock is not None:
                clock.stamp(packet)
            yield from stream.decode(packet)
    yield from stream.decode(None)


def _check(frame: VideoFrame, index: int) -> None:
    if frame.is_corrupt:
        raise UnreadableError(f"frame {index} is damaged")
