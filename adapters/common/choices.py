"""How a question with options is put, and which option a generated answer names."""

from __future__ import annotations

from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

#: The sentence of LongVideoBench and Video-MME, on which the LLaVA family was tuned.
CHOOSE = "Answer with the option's letter from the given choices directly."


def question_text(question: str, options: Sequence[str], *, context: str = "") -> str:
    """Return the part of the user's turn that follows the media; options are lines ``A. ...``."""
    lines = [context] if context else []
    lines.append(question)
    lines += [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    if options:
        lines.append(CHOOSE)
    return "\n".join(lines)


def letter_in(text: str, options: Sequence[str]) -> int | None:
    """Return the option that a generated answer names, by letter or by words; None for none."""
    head = text.lstrip("( ").split(".")[0].split(")")[0].split(":")[0].split(" ")[0]
    if len(head) == 1 and head in LETTERS[: len(options)]:
        return LETTERS.index(head)
    named = [i for i, option in enumerate(options) if option.lower() == text.strip(" .").lower()]
    return named[0] if named else None
