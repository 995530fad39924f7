"""The two shapes of adapters and tasks, and what samples hold."""

from __future__ import annotations

from typing import Final, Literal

Shape = Literal["answering", "acting"]
"""``answering``: a sample in, an answer out. ``acting``: an agent in environments."""

ANSWERING: Final = "answering"
ACTING: Final = "acting"

TEXT: Final = "text"
VIDEO: Final = "video"
IMAGE: Final = "image"
SOUND: Final = "sound"
FILM: Final = "film"
"""Kinds of content of a sample; a film is a video with questions while it goes on. A third party
may name its own."""
