"""How a question about a video is worded, and its answer read, for every model alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from namm_mm.video import Clip

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

#: The sentence of LongVideoBench and Video-MME, which the LLaVA family was tuned on.
CHOOSE = "Answer with the option's letter from the given choices directly."


def question_text(question: str, options: Sequence[str], *, context: str = "") -> str:
    """Word the part of the user's turn that follows the video.

    Options become lines ``A. ...``; without options the question stands alone.
    """
    lines = [context] if context else []
    lines.append(question)
    lines += [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    if options:
        lines.append(CHOOSE)
    return "\n".join(lines)


def time_instruction(clip: Clip) -> str:
    """What LLaVA-Video is told of a clip before the question: its length, and when frames were."""
    moments = ",".join(f"{moment:.2f}s" for moment in clip.timestamps)
    return (
        f"The video lasts for {clip.seconds:.2f} seconds, and {len(clip.frames)} frames are "
        f"uniformly sampled from it. These frames are located at {moments}.Please answer the "
        "following questions related to this video.\n"
    )


def letter_in(text: str, options: Sequence[str]) -> int | None:
    """The option that a generated answer names: by its letter at the start, or by its words."""
    head = text.lstrip("( ").split(".")[0].split(")")[0].split(":")[0].split(" ")[0]
    if len(head) == 1 and head in LETTERS[: len(options)]:
        return LETTERS.index(head)
    named = [i for i, option in enumerate(options) if option.lower() == text.strip(" .").lower()]
    return named[0] if named else None
