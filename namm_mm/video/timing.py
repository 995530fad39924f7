"""When a frame is shown: the clock of ffmpeg's command line.

Containers leave timestamps out (AVI has none of presentation, raw streams have none at all), start
anywhere, or start anew in the middle. ffmpeg counts from the start of the file, guesses what is
missing from durations, and joins a transport stream where its clock jumps.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_JUMP = 10
"""Seconds between two packets from which on the clock is taken to have jumped."""
_BACK = Fraction(1, 10)
"""Seconds that a packet may lie before the one ahead of it."""


class Clock:
    """Gives packets the timestamps that ffmpeg hands to a decoder, and reads those of frames.

    Parameters
    ----------
    start
        Start of the file in ticks of the stream.
    tick
        Length of a tick in seconds.
    frame_ticks
        Length of a frame in ticks, where a packet does not say.
    delay
        Frames that the decoder holds back.
    jumps
        Whether the container's clock may start anew (MPEG transport and program streams, Ogg).
    decode_order_only
        Whether the container has decoding times alone, so that presentation times are guesses.
    """

    def __init__(
        self,
        *,
        start: int,
        tick: Fraction,
        frame_ticks: int,
        delay: int,
        jumps: bool,
        decode_order_only: bool,
    ) -> None:
        self._tick, self._frame_ticks = tick, frame_ticks
        self._jumps, self._decode_order_only = jumps, decode_order_only
        self._offset = -start
        self._next = -delay * frame_ticks
        self._dts: int | None = None
        self._last: int | None = None
        self._last_dts: int | None = None
        self._wrong_dts = self._wrong_pts = 0

    def stamp(self, packet: Packet[VideoStream]) -> None:
        """Rewrite the timestamps of a packet, before it is decoded."""
        dts = None if packet.dts is None else packet.dts + self._offset
        if dts is not None and self._jumps and self._dts is not None:
            late = dts - self._next
            if abs(late) * self._tick > _JUMP or dts + _BACK / self._tick < self._dts:
                self._offset -= late
                dts -= late
        if packet.pts is not None:
            packet.pts = None if self._decode_order_only else packet.pts + self._offset
        self._dts = self._next if dts is None else dts
        packet.dts = self._dts
        self._next = self._dts + (packet.duration or self._frame_ticks)

    def seconds(self, frame: VideoFrame) -> float:
        """Return when a frame is shown: libavcodec's best guess from both of its timestamps."""
        pts, dts = frame.pts, frame.dts
        if dts is not None:
            self._wrong_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._wrong_pts += self._last is not None and pts <= self._last
        if pts is not None and (dts is None or self._wrong_pts <= self._wrong_dts):
            best = pts
        elif dts is not None:
            best = dts
        else:
            best = 0 if self._last is None else self._last + (frame.duration or self._frame_ticks)
        self._last = best if pts is None else pts
        return float(best * self._tick)
