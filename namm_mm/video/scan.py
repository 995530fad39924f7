"""A look at a video file without decoding it: its streams, its packets, and what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from namm_mm.video import gif
from namm_mm.video.bitstream import SEEKABLE, is_shown, starts_clean, unit_length_size, units
from namm_mm.video.clip import NoFramesError, UnreadableError
from namm_mm.video.messages import complaint, listening
from namm_mm.video.timing import Clock

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

_INDEXED = ("mov",)
"""Containers with an index of all packets, read or not."""
_TIMED = ("mov", "matroska", "flv", "asf", "avi")
"""Containers that say, before the frames, how long they last."""
_CLOCK_JUMPS = 0x0200
"""libav's AVFMT_TS_DISCONT among the flags of a container: its timestamps may start anew."""
_SHORT = Fraction(1, 4)
"""Seconds by which a file may end before its container says."""


@dataclass(frozen=True)
class Scan:
    """What a look at a file tells.

    Attributes
    ----------
    path
        The file.
    container, codec
        libav's names; the container's first one.
    stream
        Number of the video stream that ffmpeg picks.
    width, height
        Of the coded frames, in pixels.
    rate
        Frames per second; 0 if unknown.
    tick
        Seconds of a tick, the unit of timestamps.
    start
        Start of the file in ticks.
    delay
        Frames that the decoder holds back.
    jumps
        Whether the container's clock may start anew.
    frame_ticks
        Ticks of a frame at `rate`.
    packets
        How many packets are meant to be shown.
    shown
        Their presentation times in ticks, in order; empty unless each has one of its own.
    entries
        Those of frames from which decoding can start, in order.
    closed
        Whether every key frame of the container is one of those.
    alone
        Whether the file has no other video stream.
    """

    path: Path
    container: str
    codec: str
    stream: int
    width: int
    height: int
    rate: float
    tick: Fraction
    start: int
    delay: int
    jumps: bool
    frame_ticks: int
    packets: int
    shown: tuple[int, ...]
    entries: tuple[int, ...]
    closed: bool
    alone: bool

    @property
    def pixels(self) -> int:
        """Pixels that a decoding of the whole file makes."""
        return self.packets * self.width * self.height

    @property
    def seekable(self) -> bool:
        """Whether a frame can be decoded without all those before it."""
        return bool(self.shown) and bool(self.entries) and self.entries[0] == self.shown[0]

    def clock(self) -> Clock:
        """Return a clock at the start of the file."""
        return Clock(
            start=self.start,
            tick=self.tick,
            frame_ticks=self.frame_ticks,
            delay=self.delay,
            jumps=self.jumps,
            decode_order_only=self.container == "avi",
        )


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a file with PyAV.

    The path is made absolute: libav takes what stands before a colon for a protocol.
    """
    import av

    with av.open(os.path.abspath(path), "r", metadata_errors="replace") as container:
        yield container


def pick(container: InputContainer) -> VideoStream:
    """Return the stream that ffmpeg decodes: the largest, one marked as default before others.

    Raises
    ------
    NoFramesError
        There is none, or only the picture of a cover.
    UnreadableError
        No decoder is there for its codec.
    """
    from av.stream import Disposition

    streams = container.streams.video
    moving = [s for s in streams if not s.disposition & Disposition.attached_pic]
    if not moving:
        raise NoFramesError("only the picture of a cover" if streams else "no video stream")
    decodable = [s for s in moving if s.codec_context is not None]
    if not decodable:
        raise UnreadableError("this libav has no decoder for its video")
    return max(
        decodable,
        key=lambda s: (
            s.codec_context.width * s.codec_context.height
            + 5_000_000 * bool(s.disposition & Disposition.default)
        ),
    )


def prepared(stream: VideoStream) -> VideoStream:
    """Let a stream decode in this thread alone."""
    stream.codec_context.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream


def look(path: Path) -> Scan:
    """Read all packets of a file.

    Raises
    ------
    UnreadableError
        Packets are damaged or missing, by what libav says, by what the container promises, or by
        the lengths inside of them.
    """
    with listening() as heard, opened(path) as container:
        stream = pick(container)
        others = {
            s.codec_context.name
            for s in container.streams
            if s.codec_context is not None and s.index != stream.index
        }
        found = _Packets(stream, container)
        for packet in container.demux():
            found.add(packet)
        scan = found.scan(path, container)
        missing = found.missing()
    wrong = complaint(heard, scan.codec, others)
    if wrong or missing:
        raise UnreadableError(wrong or missing)
    return scan


class _Packets:
    """What is kept of the packets of one stream while they go by."""

    def __init__(self, stream: VideoStream, container: InputContainer) -> None:
        self._stream = stream
        self._container = container.format.name.split(",")[0]
        self._promised = Fraction(container.duration or 0, 1_000_000)
        self._codec = stream.codec_context.name
        self._unit = unit_length_size(self._codec, stream.codec_context.extradata or b"")
        self._times: list[int | None] = []
        self._keys: list[int | None] = []
        self._count = self._discarded = self._marked = 0
        self._end = Fraction(0)

    def add(self, packet: Packet[Stream]) -> None:
        """Take the next packet of any stream."""
        if packet.size and packet.is_corrupt:
            raise UnreadableError(f"a packet of stream {packet.stream_index} is cut off or damaged")
        shown = packet.dts if packet.pts is None else packet.pts
        if shown is not None and packet.time_base:
            end = (shown + (packet.duration or 0)) * packet.time_base
            self._end = max(self._end, end)
        if packet.stream_index != self._stream.index or not packet.size:
            return
        self._count += 1
        data = bytes(packet)
        first_bytes = units(data, self._unit) if self._unit else []
        odd = self._codec == "gif" and not gif.is_whole(data)
        if first_bytes is None or odd or not any(data[:64]):
            raise UnreadableError(f"packet {self._count - 1} of the video holds no frame")
        if packet.is_discard:
            self._discarded += 1
        elif is_shown(self._codec, data):
            self._times.append(packet.pts)
            self._marked += packet.is_keyframe
            if (
                packet.is_keyframe
                and self._codec in SEEKABLE
                and starts_clean(self._codec, data, first_bytes)
            ):
                self._keys.append(packet.pts)

    def scan(self, path: Path, container: InputContainer) -> Scan:
        """Sum up."""
        stream, context = self._stream, self._stream.codec_context
        if not self._count:
            raise NoFramesError("a video stream of 0 frames")
        tick = stream.time_base or Fraction(1, 1000)
        rate = stream.average_rate or stream.guessed_rate
        jumps = bool(container.format.flags & _CLOCK_JUMPS)
        begin = stream.start_time if jumps else None
        if begin is None:
            begin = round(Fraction(container.start_time or 0, 1_000_000) / tick)
        times = [t for t in self._times if t is not None]
        ordered = (
            self._container in ("mov", "matroska")
            and not self._discarded
            and len(set(times)) == len(self._times)
        )
        guessed = stream.guessed_rate or rate
        return Scan(
            path=path,
            container=self._container,
            codec=self._codec,
            stream=stream.index,
            width=context.width,
            height=context.height,
            rate=float(rate or 0.0),
            tick=tick,
            start=begin,
            delay=context.reorder_depth,
            jumps=jumps,
            frame_ticks=round(1 / guessed / tick) if guessed else 0,
            packets=len(self._times),
            shown=tuple(sorted(times)) if ordered else (),
            entries=tuple(sorted(k for k in self._keys if k is not None)) if ordered else (),
            closed=self._marked == len(self._keys),
            alone=len(container.streams.video) == 1 and ordered,
        )

    def missing(self) -> str:
        """Say what the container promises and does not hold; nothing if it is all there."""
        indexed = len(self._stream.index_entries) if self._container in _INDEXED else 0
        if self._count < indexed:
            return f"only {self._count} of {indexed} frames are there"
        if self._container in _TIMED and self._end + _SHORT < self._promised:
            return f"it ends after {float(self._end):.2f} of {float(self._promised):.2f} seconds"
        return ""
