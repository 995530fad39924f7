"""Sound files: read one as samples at the rate that a model was trained on, and write one."""

from __future__ import annotations

from namm_mm.sound.reading import Sound, decode_sound, read_sound
from namm_mm.sound.writing import write_wav

__all__ = ["Sound", "decode_sound", "read_sound", "write_wav"]
