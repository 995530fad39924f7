"""Which letter a reply means, as the two extractors of lmms-eval read it.

Both are lenient, and both are wrong at times: :func:`first_letter` reads "Based on the video" as B.
They are reproduced as they are, since published numbers were made with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"

_OPENINGS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)

_PHRASES = (
    *(
        f"{the}{which}{what} is"
        for what, kinds in (
            ("answer", ("", "correct ", "best ")),
            ("option", ("correct ", "best ")),
            ("choice", ("", "correct ")),
        )
        for which in kinds
        for the in ("the ", "")
    ),
    "i choose",
    "i select",
    "i pick",
    "my answer is",
    "my choice is",
    "옵션",
    "정답은",
    "답은",
    "답:",
    "答案是",
    "答案为",
    "选",
    "答えは",
)

_PATTERNS = (("({})", 6), ("{}.", 5), ("{}:", 4), ("{})", 3), ("{} ", 2))
_START, _END, _PHRASE, _ANYWHERE = 10, 9, 7, 0


def first_letter(reply: str) -> str | None:
    """Return the first of A to E anywhere in a reply, after the usual openings (LongVideoBench)."""
    for opening in _OPENINGS:
        reply = reply.replace(opening, "")
    found = re.search("[ABCDE]", reply)
    return found[0] if found else None


def ranked_letter(reply: str, letters: Sequence[str] = "ABCD") -> str | None:
    """Return the letter in the most telling place, the last of equals (MLVU and Video-MME).

    Telling are, in this order: a letter that begins the reply, one that ends it, one after a phrase
    such as "the answer is", ``(A)``, ``A.``, ``A:``, ``A)``, ``A`` before a space; and any at all
    if there is none of these.
    """
    text = reply.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    bare, text = text.strip(), f" {text} "
    if not bare:
        return None
    found: list[tuple[int, int, str]] = []
    for pattern, rank in _PATTERNS:
        for letter in letters:
            if (at := text.rfind(pattern.format(letter))) >= 0:
                found.append((rank, at, letter))
    lowered = text.lower()
    for phrase in _PHRASES:
        if (at := lowered.find(phrase)) >= 0:
            for letter in letters:
                if (after := text.find(letter, at + len(phrase))) >= 0:
                    found.append((_PHRASE, after, letter))
    for letter in letters:
        if bare.startswith(letter) and not bare[1:2].isalpha():
            found.append((_START, 0, letter))
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            found.append((_END, len(text) - 1, letter))
    if not found:
        found = [(_ANYWHERE, text.rfind(x), x) for x in letters if x in text]
    best = max(found, key=lambda candidate: candidate[:2], default=None)
    return best[2] if best else None
