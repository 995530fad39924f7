"""The first bytes of packets: whether decoding can start there, and whether a frame comes out.

Only the few bits that say so are read; see the tables of each codec's specification.
"""

from __future__ import annotations

INTRA_ONLY = frozenset({"prores", "dnxhd", "mjpeg"})
"""Codecs all of whose frames stand alone."""

SEEKABLE = frozenset({"h264", "hevc", "vp8", "vp9", "av1"}) | INTRA_ONLY
"""Codecs for which :func:`starts_clean` knows."""


def unit_length_size(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each unit of H.264 and HEVC; 0 where there is none."""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 22 and extradata[0] == 1:
        return (extradata[21] & 3) + 1
    return 0


def units(data: bytes, size: int) -> list[int] | None:
    """Return the first byte of each unit of a packet; None if their lengths do not fill it."""
    found, at = [], 0
    while at + size < len(data):
        length = int.from_bytes(data[at : at + size], "big")
        at += size
        if not length or at + length > len(data):
            return None
        found.append(data[at])
        at += length
    return found if at == len(data) else None


def starts_clean(codec: str, data: bytes, first_bytes: list[int]) -> bool:
    """Whether every frame shown at or after this one can be decoded from it on.

    Parameters
    ----------
    codec
        One of :data:`SEEKABLE`.
    data
        The packet, which its container marks as a key frame.
    first_bytes
        Of H.264 and HEVC: what :func:`units` returned.
    """
    if codec == "h264":  # 5: an IDR slice. A recovery point may need frames before it
        return any(byte & 31 == 5 for byte in first_bytes)
    if codec == "hevc":  # 16 to 21: BLA, IDR and CRA; the decoder drops what CRA cannot give
        return any(16 <= byte >> 1 & 63 <= 21 for byte in first_bytes)
    if codec == "vp8":
        return not data[0] & 1
    if codec == "vp9":
        return _vp9_key(data[0])
    return True


def _vp9_key(byte: int) -> bool:
    """The marker 2, the profile, then `show_existing_frame` and `frame_type`, both 0."""
    reserved = 1 if byte >> 4 & 3 == 3 else 0
    return byte >> 6 == 2 and byte >> (2 - reserved) & 3 == 0


def is_shown(codec: str, data: bytes) -> bool:
    """Whether the packet gives a frame: VP8 stores frames that are only referred to."""
    return codec != "vp8" or bool(data[0] >> 4 & 1)
