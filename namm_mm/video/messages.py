"""What libav logs while it reads a file: a decoder conceals damage and tells of it there alone."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

HARMLESS = (
    "packed B-frames",  # DivX in AVI: two frames in one packet, both are decoded
    "packed xvid",
    "Increasing reorder buffer",
    "unable to decode APP fields",  # Motion JPEG: data beside the picture
    "EOI missing, emulating",  # Motion JPEG without an end marker: the picture is whole
)
"""Warnings of decoders that concern no pixel, no order and no time."""

DAMAGE = ("corrupt", "truncat", "partial", "prematurely", "mismatch", "broken", "damaged")
"""Words by which a warning of a demuxer tells of lost data; its other warnings are harmless."""


class Message(NamedTuple):
    """A line of libav's log. `level` is 16 for an error, 24 for a warning."""

    level: int
    source: str
    text: str


_ERROR = 16
_lock = threading.Lock()
_listeners = 0
_before: tuple[int | None, bool] = (None, True)


@contextmanager
def listening() -> Iterator[list[Message]]:
    """Collect what PyAV's libav logs in this thread, from warnings up.

    PyAV must decode in this thread alone (``thread_count = 1``): a line from another thread would
    not be collected, and PyAV waits for such threads while it holds the interpreter's lock.
    """
    import av

    global _listeners, _before
    with _lock:
        _listeners += 1
        if _listeners == 1:  # the level is one for the whole process
            _before = av.logging.get_level(), av.logging.get_skip_repeated()
            av.logging.set_level(av.logging.WARNING)
            av.logging.set_skip_repeated(False)
    heard: list[Message] = []
    try:
        with av.logging.Capture() as lines:
            try:
                yield heard
            finally:
                heard.extend(Message(*line) for line in lines)
    finally:
        with _lock:
            _listeners -= 1
            if _listeners == 0:
                av.logging.set_skip_repeated(_before[1])
                av.logging.set_level(_before[0])


def complaint(heard: Iterable[Message], decoder: str, others: Iterable[str] = ()) -> str:
    """Return the first line that tells of damage, or nothing.

    Parameters
    ----------
    heard
        The lines, in order.
    decoder
        Codec of the video stream. Its warnings count, :data:`HARMLESS` ones excepted.
    others
        Codecs of other streams: what they say is not about the frames.
    """
    ignored = set(others) - {decoder}
    for level, source, text in heard:
        if source in ignored or source == "swscaler" or any(word in text for word in HARMLESS):
            continue
        if level <= _ERROR or source == decoder or any(word in text.lower() for word in DAMAGE):
            return f"{source}: {text.strip()}"
    return ""
