"""The two shapes of adapters and tasks."""

from __future__ import annotations

from typing import Final, Literal

Shape = Literal["answering", "acting"]
"""``answering``: a sample in, an answer out. ``acting``: an agent in environments."""

ANSWERING: Final = "answering"
ACTING: Final = "acting"
