"""Whether a sound file is cut off: its own header or last page says how long it should be.

libsndfile reads a WAV or Ogg file as far as it goes and says nothing. FLAC states its length, which
:mod:`namm_mm.sound.reading` compares. MP3 states none.
"""

from __future__ import annotations

import struct
from pathlib import Path

_UNKNOWN = (0, 0xFFFFFFFF)
"""Sizes that a program writes which does not know the length, such as one that writes to a pipe."""

_TAIL = 1 << 17
"""Bytes at the end of an Ogg file that hold its last page: a page has 65,307 at most."""


def cut_off(path: Path) -> str:
    """Return what shows that `path` is cut off; empty where nothing does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] == b"RIFF" and start[8:] == b"WAVE":
            return _wav(file.read(1 << 16), size)
        if start[:4] == b"OggS":
            file.seek(max(0, size - _TAIL))
            return _ogg(file.read())
    return ""


def _wav(chunks: bytes, size: int) -> str:
    """Compare the size of the data chunk with the file's; `chunks` begin at byte 12."""
    at = 0
    while at + 8 <= len(chunks):
        name, length = struct.unpack_from("<4sI", chunks, at)
        if name == b"data":
            there = size - (12 + at + 8)
            if length in _UNKNOWN or length <= there:
                return ""
            return f"{there:,} of {length:,} bytes of sound"
        at += 8 + length + length % 2
    return ""


def _ogg(tail: bytes) -> str:
    """Look at the last page, which is marked as the end of its stream and is all there."""
    at = tail.rfind(b"OggS")
    if at < 0 or at + 27 > len(tail):
        return "a last page without its header"
    segments = tail[at + 26]
    table = tail[at + 27 : at + 27 + segments]
    if len(table) < segments or at + 27 + segments + sum(table) > len(tail):
        return "a last page that is not whole"
    return "" if tail[at + 5] & 4 else "no page that ends the stream"
