"""The blocks of a GIF, whose demuxer takes damage for a part of the frame before, silently."""

from __future__ import annotations

_HEADER, _EXTENSION, _IMAGE, _END = b"GIF8", 0x21, 0x2C, 0x3B


def is_whole(data: bytes) -> bool:
    """Whether a packet is made of blocks, one of which is an image, and of nothing else."""
    at = 0
    if data.startswith(_HEADER):
        at = 13 + _table(data[10]) if len(data) > 13 else len(data)
    images = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _EXTENSION:
            at += 2
        elif data[at] == _IMAGE and at + 10 < len(data):
            at += 10 + _table(data[at + 9]) + 1  # place and size, colours, size of codes
            images += 1
        else:
            return False
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return images == 1 and at <= len(data)


def _table(flags: int) -> int:
    """Bytes of a table of colours, if the flags say that one follows."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
