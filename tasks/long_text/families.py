"""Question families over prose: a fact is said far above and asked at the end.

Each generator hides something in the first part of a long text, so that a cache of the newest
quarter cannot know it, and asks for it in words that a small base model can continue. The lengths
are in words: tasks know no tokenizer. A word of prose is about 1.4 tokens, so 600 words are about
900 tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any

from namm_mm.errors import UsageError

NAMES = (
    *("Adam", "Alice", "Anna", "Carl", "Clara", "David", "Emma", "Frank", "George", "Henry"),
    *("Jack", "Jane", "John", "Julia", "Karen", "Laura", "Lucy", "Mark", "Mary", "Michael"),
    *("Nancy", "Oliver", "Paul", "Peter", "Robert", "Rose", "Sarah", "Simon", "Thomas", "William"),
)
TRIES = 1000
STOPS = " .,:;!?"
THINGS = ("order number", "postal code", "ticket number", "account number", "serial number")


@dataclass(frozen=True)
class Draft:
    """A sample before it gets its name: the fields of :class:`namm_mm.records.Sample`."""

    context: str
    question: str
    answer: str
    options: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shape:
    """How long a context is, and where in it the answer may be.

    Attributes
    ----------
    words
        Words of the context.
    low, high
        The answer is said between these parts of the context; 0 is its beginning.
    """

    words: int
    low: float
    high: float


class Haystack:
    """Prose of one split, cut into sentences.

    Parameters
    ----------
    documents
        Paragraphs of each document.
    """

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        self.paragraphs = [paragraph for document in documents for paragraph in document]

    def stretch(self, random: Random, words: int) -> list[str]:
        """Return sentences of running text from a random paragraph on, `words` words in all.

        Each ends with the white space that follows it: a line break at the end of a paragraph.
        """
        at = random.randrange(len(self.paragraphs))
        found: list[str] = []
        while words > 0:
            sentences = sentences_of(self.paragraphs[at % len(self.paragraphs)])
            for index, sentence in enumerate(sentences):
                if words > 0:
                    last = index == len(sentences) - 1 or count(sentence) >= words
                    found.append(" ".join(sentence.split()[:words]) + ("\n" if last else " "))
                    words -= count(sentence)
            at += 1
        return found

    @cached_property
    def frequency(self) -> Counter[str]:
        """How often each word occurs, in lower case."""
        return Counter(word for p in self.paragraphs for word in re.findall(r"[a-z]+", p.lower()))

    @cached_property
    def common(self) -> list[str]:
        """Frequent words of 4 to 8 letters, to be keys of a list."""
        words = (w for w, _ in self.frequency.most_common(1500) if 4 <= len(w) <= 8)
        return sorted(words)


def too_little(what: str) -> UsageError:
    """Return the error of a source that cannot fill a context."""
    return UsageError(
        f"the text source is too small for this family: it has too few {what}. Give a folder "
        "with more text, fewer `words`, or other `families`."
    )


def sentences_of(paragraph: str) -> list[str]:
    """Return a paragraph cut after full stops, question marks and colons that end a clause."""
    return re.split(r"(?<=[.?!])\s+(?=[A-Z\"'(*])", paragraph)


def count(text: str) -> int:
    """Return the number of words."""
    return len(text.split())


def passkey(haystack: Haystack, random: Random, shape: Shape) -> Draft:
    """Return a question for one of several numbers of five digits (Mohtashami & Jaggi, 2023)."""
    key, *others = random.sample(range(10_000, 100_000), 1 + 3)
    sentences = haystack.stretch(random, shape.words - 30)
    depth = random.uniform(shape.low, shape.high)
    needles = [(depth, f"The pass key is {key}. Remember it. {key} is the pass key. ")]
    for thing, number in zip(random.sample(THINGS, len(others)), others, strict=True):
        needles.append((random.random(), f"See {thing} {number} for details. "))
    text = "".join(insert(sentences, needles))
    return Draft(text, "\nThe pass key is ", str(key), metadata={"depth": round(depth, 3)})


def key_value(haystack: Haystack, random: Random, shape: Shape, *, hint: bool) -> Draft:
    """Return a question for the number of a word in a list; `hint` names the word before the list.

    Without the hint nothing in the past says which line will be asked for, so that no policy can
    prefer it: what a cache loses here is the price of forgetting at random.
    """
    lines = max(4, shape.words // 12)  # a line takes as many tokens as five words: 40 % of all
    if len(haystack.common) < lines:
        raise too_little(f"{lines} different words")
    keys = random.sample(haystack.common, lines)
    numbers = [random.randrange(1_000, 10_000) for _ in keys]
    listed = "".join(f"{key}: {number}\n" for key, number in zip(keys, numbers, strict=True))
    prose = shape.words - 5 * lines
    head = "".join(haystack.stretch(random, prose // 6))
    tail = "".join(haystack.stretch(random, prose - prose // 6))
    asked = random.randrange(lines)
    lead = f"Remember the number of {keys[asked]}.\n\n" if hint else ""
    return Draft(
        context=f"{lead}{head}\n{listed}\n{tail}",
        question=f"\n{keys[asked]}: ",
        answer=str(numbers[asked]),
        metadata={"lines": lines, "line": asked},
    )


def passage(haystack: Haystack, random: Random, shape: Shape) -> Draft:
    """Return a question for the author of a quoted passage; each passage ends with its author.

    Small models look back by matching the words before, so that nothing stands between the sentence
    and the name: after a bracket, or numbers in a row, SmolLM2-135M guesses.
    """
    texts: list[str] = []
    words = 0
    for _ in range(TRIES):
        if words >= shape.words or len(texts) == len(NAMES):
            break
        text = random.choice(haystack.paragraphs).rstrip(STOPS)
        last = sentences_of(text)[-1]
        if 30 <= count(text) <= 90 and count(last) >= 8 and text not in texts:
            texts.append(text)
            words += count(text) + 1
    else:
        raise too_little("paragraphs of 30 to 90 words")
    names = random.sample(NAMES, len(texts))
    first = min(int(shape.low * len(texts)), len(texts) - 1)
    asked = random.randrange(first, max(first + 1, int(shape.high * len(texts))))
    return Draft(
        context="".join(f"{text} {name}.\n" for text, name in zip(texts, names, strict=True)),
        question=f"\n{sentences_of(texts[asked])[-1]} ",
        answer=names[asked],
        options=tuple(names),
        metadata={"depth": round(asked / len(texts), 3)},
    )


def cloze(haystack: Haystack, random: Random, shape: Shape) -> Draft:
    """Return a sentence from far above without its last, rare word, which is the answer."""
    for _ in range(TRIES):
        sentences = haystack.stretch(random, shape.words)
        total = sum(map(count, sentences))
        recent = _plain("".join(_after(sentences, 0.68 * total)))
        found, before = [], 0
        for sentence in sentences:
            after = before + count(sentence)
            if shape.low * total <= before and after <= shape.high * total:
                for lead, word in _rare_words(sentence, haystack):
                    if word.lower() not in recent + _plain(lead):
                        found.append((lead, word, before / total))
            before = after
        if found:
            lead, answer, depth = random.choice(found)
            question = f"As was said above: {lead} "
            return Draft("".join(sentences), question, answer, metadata={"depth": round(depth, 3)})
    raise too_little("sentences with a rare word")


def _rare_words(sentence: str, haystack: Haystack) -> Iterator[tuple[str, str]]:
    """Return words of a sentence that are rare in its split, each with the six or more before."""
    words = sentence.split()
    for index in range(6, len(words)):
        word = words[index].strip(STOPS)
        plain = word.isalpha() and word.isascii() and len(word) >= 6
        if plain and haystack.frequency[word.lower()] <= 8:
            yield " ".join(words[:index]), word


def insert(sentences: Sequence[str], needles: Sequence[tuple[float, str]]) -> list[str]:
    """Return the text with each needle between two sentences, at its part (0 to 1) of the words."""
    total = sum(map(count, sentences))
    waiting = sorted(needles, reverse=True)
    found, before = [], 0
    for sentence in sentences:
        while waiting and waiting[-1][0] * total <= before:
            found.append(waiting.pop()[1])
        found.append(sentence)
        before += count(sentence)
    return found + [needle for _, needle in reversed(waiting)]


def _after(sentences: Sequence[str], words: float) -> list[str]:
    """Return the number of sentences that end after so many words."""
    found, before = [], 0
    for sentence in sentences:
        before += count(sentence)
        if before > words:
            found.append(sentence)
    return found


def _plain(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())
