"""Pictures read as the frames of a video, by a video model: an album of many small pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from namm_mm.adapters.video.frames_adapter import FramesAdapter, Shown
from namm_mm.errors import UsageError, message
from namm_mm.image import read_picture
from namm_mm.records import Sample, TokenType
from namm_mm.records.shape import IMAGE, TEXT


@dataclass
class AlbumAdapter(FramesAdapter):
    """Runs a LLaVA video model on pictures, each of which is one frame.

    The bundled ``smollm2_video`` reads a picture in 4 tokens. Options are those of
    :class:`namm_mm.adapters.video.frames_adapter.FramesAdapter`.
    """

    reads: ClassVar[frozenset[str]] = frozenset({TEXT, IMAGE})
    requires: ClassVar[frozenset[str]] = frozenset({IMAGE})

    model: str = "smollm2_video"

    def shown(self, sample: Sample, marks: int) -> Shown:
        """Read the pictures; see :class:`namm_mm.adapters.video.frames_adapter.FramesAdapter`."""
        count = len(sample.images)
        if not count or marks not in (0, count):
            raise UsageError(
                message(
                    f"sample {sample.id!r} has another number of places than pictures",
                    given=f"{count} pictures, {marks} places in the words",
                    expected="one picture or more, and as many places or none",
                )
            )
        frames = [np.asarray(read_picture(path)) for path in sample.images]
        pixels = torch.cat([self.loaded.preprocess(frame[None]) for frame in frames])
        sizes = [list(frame.shape[:2]) for frame in frames]
        return Shown(pixels, {"pictures": count, "picture_sizes": sizes})

    def named(self, types: list[TokenType], tokens_per_frame: int) -> tuple[TokenType, ...]:
        """Return the tokens of a frame as those of a picture, with row and column in a square."""
        side = math.isqrt(tokens_per_frame)
        found, before = [], TokenType("text")
        place = 0
        for one in types:
            place = place + 1 if one == before else 0
            before = one
            if one.kind == "frame":
                row, column = divmod(place, side)
                square = side * side == tokens_per_frame
                patch = {"row": row, "column": column} if square else {}
                one = replace(one, kind="image", **patch)
            found.append(one)
        return tuple(found)
