"""Questions about a talk, whose answers are known because we know what was said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from namm_mm.tasks.speech_qa.words import PHRASES, words_of

if TYPE_CHECKING:
    from numpy.random import Generator

OPTIONS = 4
PLACES = ("first", "second", "third", "fourth")


@dataclass(frozen=True)
class Plan:
    """What a talk says, and a question about it.

    Attributes
    ----------
    texts
        What is said, in order.
    question
        Which words are offered is part of it where the question needs them.
    answer, wrong
        The right word, and three others.
    evidence
        Indices of the texts that the answer needs.
    """

    texts: tuple[str, ...]
    question: str
    answer: str
    wrong: tuple[str, ...]
    evidence: tuple[int, ...]


def _choose(words: tuple[str, ...], count: int, rng: Generator) -> list[str]:
    return [words[i] for i in rng.choice(len(words), count, replace=False)]


def _word(words: tuple[str, ...], rng: Generator) -> Plan:
    count = int(rng.integers(3, 6))
    chosen = _choose(words, count + OPTIONS - 1, rng)
    said, wrong = chosen[:count], chosen[count:]
    at = int(rng.integers(count))
    return Plan(tuple(said), "Which of the words was said?", said[at], tuple(wrong), (at,))


def _order(words: tuple[str, ...], rng: Generator) -> Plan:
    said = _choose(words, OPTIONS, rng)
    at = int(rng.integers(OPTIONS))
    wrong = tuple(word for word in said if word != said[at])
    question = f"Which word was said {PLACES[at]}?"
    return Plan(tuple(said), question, said[at], wrong, (at,))


def _needle(words: tuple[str, ...], rng: Generator) -> Plan:
    phrases = _choose(PHRASES, int(rng.integers(9, 13)), rng)
    answer, *wrong = _choose(words, OPTIONS, rng)
    at = int(rng.integers(len(phrases) + 1))
    phrases.insert(at, f"the password is {answer}")
    return Plan(tuple(phrases), "What is the password?", answer, tuple(wrong), (at,))


def _absent(words: tuple[str, ...], rng: Generator) -> Plan:
    count = int(rng.integers(4, 7))
    answer, *said = _choose(words, count + 1, rng)
    asked = sorted(int(i) for i in rng.choice(count, OPTIONS - 1, replace=False))
    wrong = tuple(said[i] for i in asked)
    return Plan(tuple(said), "", answer, wrong, tuple(asked))


def _twice(words: tuple[str, ...], rng: Generator) -> Plan:
    said = _choose(words, int(rng.integers(4, 6)), rng)
    at = int(rng.integers(len(said) - 1))
    again = int(rng.integers(at + 2, len(said) + 1))
    answer = said[at]
    others = [word for word in said if word != answer]
    wrong = tuple(others[i] for i in rng.choice(len(others), OPTIONS - 1, replace=False))
    said.insert(again, answer)
    return Plan(tuple(said), "Which word was said twice?", answer, wrong, (at, again))


FAMILIES: Mapping[str, Callable[[tuple[str, ...], Generator], Plan]] = {
    "word": _word,
    "order": _order,
    "needle": _needle,
    "absent": _absent,
    "twice": _twice,
}
"""Families of questions: which word was said; in which order; a needle in a long talk; what was
never said; and what was said twice."""

LISTED = {"absent": "Which of these words was not said: {}?"}
"""A question that cannot be asked without the words to choose from."""


def plan(family: str, split: str, word_set: str, rng: Generator) -> Plan:
    """Return a random plan of `family` in the words of `split`."""
    return FAMILIES[family](words_of(split, word_set), rng)


def worded(family: str, made: Plan, options: tuple[str, ...]) -> str:
    """Return the question, with the options in it where it needs them."""
    if family not in LISTED:
        return made.question
    return LISTED[family].format(f"{', '.join(options[:-1])} or {options[-1]}")
