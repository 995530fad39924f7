"""Frames by decord, where it is proven to give those of ffmpeg.

decord numbers packets, not frames, seeks to whatever the container calls a key frame, knows no edit
lists and no display matrix, and passes over damage. So it reads only H.264 in MP4, QuickTime and
Matroska that is upright, whose key frames are all closed, and whose packets are all shown; and what
its libav logs while it decodes is listened to.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from namm_mm.video.clip import Decoded, UnprovenError
from namm_mm.video.sampling import spread
from namm_mm.video.scan import Scan
from namm_mm.video.with_pyav import first_frame, is_plain, times_of

_WARNING = 24
_CONVERSION = b"Changing video frame properties on the fly", b"filter context - "
"""Beginnings of what the conversion to RGB says of frames that name their colour range."""
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_lock = threading.Lock()


def is_right(scan: Scan) -> bool:
    """Whether decord is known to give this file's frames, and can be heard."""
    return (
        scan.container in ("mov", "matroska")
        and scan.codec == "h264"
        and scan.seekable
        and scan.closed
        and scan.alone
        and _log() is not None
        and is_plain(first_frame(scan))
    )


def threads() -> int:
    """Threads that decord decodes with: ``OMP_NUM_THREADS``, or as many as there are processors.

    With one, PyAV is the faster (``research/results/video_decoding.md``).
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() and int(told) else os.cpu_count() or 1


def read(scan: Scan, count: int, sampling: str) -> Decoded:
    """Decode the wanted frames.

    Raises
    ------
    UnprovenError
        decord counts other frames than there are, fails, or its decoder complains: PyAV finds out
        what is wrong.
    """
    import decord

    total = len(scan.shown)
    indices = spread(total, count, sampling)
    with _lock, _heard() as lines:
        try:
            reader = decord.VideoReader(os.path.abspath(scan.path), num_threads=threads())
            frames = reader.get_batch(indices.tolist()).asnumpy()
            counted = len(reader)
        except Exception as error:
            raise UnprovenError(f"decord fails: {error}") from error
        finally:
            reader = None  # its threads end before the log is given back
    if lines or counted != total:
        raise UnprovenError(f"decord counts {counted} frames and says {lines[:1]}")
    return Decoded(np.asarray(frames), times_of(scan, indices), indices, total)


@contextmanager
def _heard() -> Iterator[list[bytes]]:
    """Collect the warnings and errors of decord's libav, which has one callback for all threads."""
    lines: list[bytes] = []

    def note(_context: int, level: int, text: bytes, _values: int) -> None:
        if level <= _WARNING and not text.startswith(_CONVERSION):
            lines.append(text)

    library = _log()
    callback = _CALLBACK(note)
    if library is None:
        raise UnprovenError("decord cannot be heard")
    library.av_log_set_callback(callback)
    try:
        yield lines
    finally:
        library.av_log_set_callback(library.av_log_default_callback)


@cache
def _log() -> ctypes.CDLL | None:
    """The libavutil that decord brings, beside its package; None if there is none to be found."""
    spec = find_spec("decord")
    if spec is None or spec.origin is None:
        return None
    around = Path(spec.origin).parent
    for folder in (
        around.parent / "decord2.libs",
        around / ".dylibs",
        around.parent / "decord.libs",
    ):
        for file in sorted(folder.glob("libavutil*")):
            try:
                import decord  # loads the library, so that the next line finds that one

                del decord
                return ctypes.CDLL(str(file))
            except (OSError, ImportError):
                continue
    return None
