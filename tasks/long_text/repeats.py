"""A text in which hardly anything happens: what memories of video and control meet all the time."""

from __future__ import annotations

from random import Random

from namm_mm.tasks.long_text.families import (
    THINGS,
    TRIES,
    Draft,
    Haystack,
    Shape,
    count,
    insert,
    sentences_of,
    too_little,
)

SCENES = 3  # sentences that are repeated, one after the other
SENTENCE = range(6, 19)  # words of each


def repeats(haystack: Haystack, random: Random, shape: Shape) -> Draft:
    """Return a question for one of five notes in a text that repeats the same sentences.

    Idle frames of a video and steps of a steady gait are to attention what repeated sentences are:
    any of them does for all, and what differs from them is what may be asked for.
    """
    scenes = _sentences(haystack, random)
    cuts = sorted(random.uniform(0.1, 0.9) for _ in scenes[1:])
    sentences: list[str] = []
    words = 8 * len(THINGS)  # of the notes
    while words < shape.words:
        scene = scenes[sum(words >= cut * shape.words for cut in cuts)]
        sentences.append(f"{scene} ")
        words += count(scene)
    things = random.sample(THINGS, len(THINGS))
    numbers = random.sample(range(10_000, 100_000), len(things))
    asked = random.uniform(shape.low, shape.high)
    places = [asked, *(random.random() for _ in things[1:])]
    notes = [
        (place, f"The {thing} is {number}. ")
        for place, thing, number in zip(places, things, numbers, strict=True)
    ]
    return Draft(
        context="".join(insert(sentences, notes)),
        question=f"\nThe {things[0]} is ",
        answer=str(numbers[0]),
        metadata={"depth": round(asked, 3)},
    )


def _sentences(haystack: Haystack, random: Random) -> list[str]:
    """Return sentences of moderate length, no two alike."""
    found: list[str] = []
    for _ in range(TRIES):
        sentence = random.choice(sentences_of(random.choice(haystack.paragraphs))).strip()
        if count(sentence) in SENTENCE and sentence.endswith(".") and sentence not in found:
            found.append(" ".join(sentence.split()))
        if len(found) == SCENES:
            return found
    raise too_little(f"sentences of {SENTENCE.start} to {SENTENCE.stop - 1} words")
