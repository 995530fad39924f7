"""A decoded frame to RGB, by the filters that ffmpeg puts behind its decoder: upright, one size."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from namm_mm.video.clip import UnreadableError

if TYPE_CHECKING:
    import av
    from av.sidedata.sidedata import SideDataContainer
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

# The clock of a frame whose stream has none. The filters ask for a clock and do not use it.
TICK = Fraction(1, 1000)

_Kind = tuple[int, int, str, bytes]


class Painter:
    """Turns frames into RGB arrays of the first one's size, as ``ffmpeg -pix_fmt rgb24`` does.

    A frame is turned as its display matrix says. A later frame of another size is scaled to the
    first. The pixels' aspect is left alone, and so are interlaced lines.
    """

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None
        self._graphs: dict[_Kind, av.filter.Graph] = {}

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return (height, width, 3) uint8."""
        graph = self._graph(frame)
        graph.vpush(frame)
        return np.asarray(graph.vpull().to_ndarray(), dtype=np.uint8)

    def see(self, frame: VideoFrame) -> None:
        """Take the size of the first frame, though it is not wanted itself."""
        if self._size is None:
            self._graph(frame)

    def _graph(self, frame: VideoFrame) -> av.filter.Graph:
        from av.filter import Graph

        side = display_matrix(frame)
        kind = frame.width, frame.height, frame.format.name, side
        if kind in self._graphs:
            return self._graphs[kind]
        turns = upright(kind[3])
        width, height = frame.width, frame.height
        if any(name == "transpose" for name, _ in turns):
            width, height = height, width
        self._size = self._size or (width, height)
        scale = f"{self._size[0]}:{self._size[1]}:flags=bicubic"
        graph = Graph()
        graph.threads = 1
        nodes = [
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base or TICK,
            ),
            *(graph.add(name, options) for name, options in turns),
            graph.add("scale", scale),
            graph.add("format", "pix_fmts=rgb24"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        self._graphs[kind] = graph
        return graph


def display_matrix(frame: VideoFrame) -> bytes:
    """Return the matrix that says how a frame is turned; empty if it has none."""
    from av.sidedata.sidedata import Type

    found = cast("SideDataContainer", frame.side_data)  # PyAV's own hint names motion vectors only
    return next((bytes(side) for side in found if side.type == Type.DISPLAYMATRIX), b"")


def upright(matrix: bytes) -> tuple[tuple[str, str | None], ...]:
    """Return the filters, with their options, that undo a display matrix as ffmpeg does.

    Parameters
    ----------
    matrix
        Nine little-endian 32-bit numbers, row by row; empty if the frame has none.

    Raises
    ------
    UnreadableError
        The frame is turned by something else than a multiple of 90 degrees.
    """
    if not matrix:
        return ()
    m = struct.unpack("=9i", matrix[:36])
    wide, tall = math.hypot(m[0], m[3]), math.hypot(m[1], m[4])
    if not wide or not tall:
        return ()
    angle = round(math.degrees(math.atan2(m[1] / tall, m[0] / wide))) % 360
    if angle == 90:
        return (("transpose", "cclock_flip" if m[3] > 0 else "clock"),)
    if angle == 270:
        return (("transpose", "clock_flip" if m[3] < 0 else "cclock"),)
    if angle == 180:
        flips = ("hflip", m[0] < 0), ("vflip", m[4] < 0)
        return tuple((name, None) for name, wanted in flips if wanted)
    if angle == 0:
        return (("vflip", None),) if m[4] < 0 else ()
    raise UnreadableError(f"its frames are turned by {angle} degrees, no multiple of 90")
