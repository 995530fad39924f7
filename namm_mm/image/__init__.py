"""Picture files: read upright and whole as RGB, or refused with the reason."""

from __future__ import annotations

from namm_mm.image.reading import read_picture

__all__ = ["read_picture"]
