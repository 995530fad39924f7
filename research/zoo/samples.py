"""Samples of the zoo: text with something to remember in it, and questions at its end.

A sample is made of tokens, so that it needs no words in which a small model would have to be
fluent: real text of the model's corpus around lists of keys and values, pass keys, spans of random
tokens and passages, which are asked for or repeated at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from research.zoo.corpus import MARKS, Tokens, tokens
from research.zoo.recipes import Recipe

LINE, PASS, NOTE, COPY = range(4)  # marks; the rest of them is not used
PLAIN = 0.25  # weight of a token of plain text in training


@dataclass(frozen=True, eq=False)
class Samples:
    """A batch of samples of equal length.

    Attributes
    ----------
    tokens
        (sample, token) int64.
    answers
        (sample, token) bool: tokens that answer a question, or that continue what stood above.
    weights
        (sample, token) float32: weight of a token's loss in training.
    """

    tokens: Tensor
    answers: Tensor
    weights: Tensor

    def origins(self) -> Tensor:
        """Return (sample, token) int64: where the token of an answer stood above; else -1.

        Of the places with the same token it is the first whose two tokens before are the same, too,
        as far as there is one.
        """
        same = self.tokens[:, :, None] == self.tokens[:, None, :]
        before = torch.zeros_like(same)
        before[:, 1:, 1:] = same[:, :-1, :-1]
        further = torch.zeros_like(same)
        further[:, 2:, 2:] = same[:, :-2, :-2]
        alike = same.int() + (same & before).int() + (same & before & further).int()
        alike = alike.tril(-1)
        best, place = alike.max(-1)
        return place.masked_fill((best < 2) | ~self.answers, -1)


@dataclass(frozen=True, eq=False)
class Part:
    """A run of tokens with the weights that they have in training, and which of them are answers.

    Attributes
    ----------
    tokens
        (token,) int64.
    answers
        (token,) bool.
    weight
        Of a token that is no answer.
    """

    tokens: Tokens
    answers: Tokens
    weight: float = 0.0


class Source:
    """Draws samples for one model from one split.

    Parameters
    ----------
    recipe
        The model's vocabulary and corpus.
    split
        ``train``, ``validation`` or ``test``.
    seed
        Of the samples.
    again
        Part of the samples of lists, pass keys and copies in which what is asked was said twice, at
        two places: then the attention of the second mention says that the first one matters.
    """

    def __init__(self, recipe: Recipe, split: str, seed: int, again: float = 0.0) -> None:
        self.again = again
        self.vocabulary = recipe.vocabulary
        self.stream = tokens(recipe.corpus, recipe.vocabulary, split)
        self.random = np.random.default_rng([seed, len(split), recipe.seed])

    def draw(self, count: int, length: int, family: str | None = None) -> Samples:
        """Return `count` samples of `length` tokens; of one family, or of all in turn."""
        names = list(FAMILIES) if family is None else [family]
        rows = [self._row(names[at % len(names)], length) for at in range(count)]
        return Samples(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))

    def _row(self, family: str, length: int) -> tuple[Tokens, Tokens, Tokens]:
        facts, questions = FAMILIES[family](self, length)
        if family in TWICE and self.again and self.random.random() < self.again:
            facts = [*facts, *facts]
        asked = sum(len(part.tokens) for part in questions)
        room = length - asked - sum(len(part.tokens) for part in facts)
        cuts = np.sort(self.random.integers(0, max(room, 0) + 1, len(facts)))
        if room // 3:  # something stands between the facts and the questions
            cuts = cuts * 2 // 3
        parts, before = [], 0
        for cut, fact in zip(cuts, facts, strict=True):
            parts += [self.text(cut - before), fact]
            before = cut
        parts += [self.text(room - before), *questions]
        found = np.concatenate([part.tokens for part in parts])[:length]
        answers = np.concatenate([part.answers for part in parts])[:length]
        plain = np.concatenate([np.full(len(p.tokens), p.weight, np.float32) for p in parts])
        return found, answers, np.where(answers, np.float32(1.0), plain[:length])

    def text(self, count: int) -> Part:
        """Return running text of the corpus."""
        at = self.random.integers(0, len(self.stream) - count)
        return plain(self.stream[at : at + count], PLAIN)

    def symbols(self, count: int, *, different: bool = False) -> Tokens:
        """Return random tokens that are no marks."""
        if different:
            return self.random.choice(self.vocabulary - MARKS, count, replace=False) + MARKS
        return self.random.integers(MARKS, self.vocabulary, count)


def plain(found: Tokens, weight: float = 0.0) -> Part:
    """Return tokens of which none is an answer."""
    return Part(found, np.zeros(len(found), bool), weight)


def answered(question: Tokens, answer: Tokens) -> Part:
    """Return a question with its answer behind it."""
    marks = np.concatenate([np.zeros(len(question), bool), np.ones(len(answer), bool)])
    return Part(np.concatenate([question, answer]), marks)


def lists(source: Source, length: int, *, hinted: bool) -> tuple[list[Part], list[Part]]:
    """Lines of a key and two values in one block; some are asked, named before where `hinted`."""
    count = max(3, length // (16 if hinted else 28))
    keys = source.symbols(count, different=True)
    values = source.symbols(2 * count).reshape(count, 2)
    lines = np.concatenate([np.full((count, 1), LINE), keys[:, None], values], axis=1)
    asked = source.random.choice(count, max(1, count // (4 if hinted else 2)), replace=False)
    facts = [plain(lines.flatten())]
    if hinted:
        facts.insert(0, plain(np.concatenate([[NOTE], keys[asked], [NOTE]])))
    return facts, [answered(lines[at, :2], lines[at, 2:]) for at in asked]


def pass_keys(source: Source, length: int) -> tuple[list[Part], list[Part]]:
    """Names with four tokens each, said twice at one place of the text."""
    count = max(1, length // 96)
    names = source.symbols(count, different=True)
    facts, questions = [], []
    for name in names:
        said = np.concatenate([[PASS, name], source.symbols(4)])
        facts.append(plain(np.concatenate([said, said, [PASS]])))
        questions.append(answered(said[:2], said[2:]))
    order = source.random.permutation(count)
    return facts, [questions[at] for at in order]


def copies(source: Source, length: int) -> tuple[list[Part], list[Part]]:
    """Spans of random tokens, each begun again at the end."""
    count = max(1, length // 96)
    spans = [source.symbols(8 + int(source.random.integers(0, 7))) for _ in range(count)]
    facts = [plain(np.concatenate([[COPY], span])) for span in spans]
    order = source.random.permutation(count)
    return facts, [answered(np.concatenate([[COPY], spans[at][:2]]), spans[at][2:]) for at in order]


def passages(source: Source, length: int) -> tuple[list[Part], list[Part]]:
    """A passage of real text that comes again at the end; often once more between."""
    passage = source.text(max(12, length // 8))
    facts = [passage] * int(source.random.integers(1, 4))
    return facts, [answered(passage.tokens[:4], passage.tokens[4:])]


def repeats(source: Source, length: int) -> tuple[list[Part], list[Part]]:
    """Random tokens over and over: from the second time on every token is known."""
    block = source.symbols(max(8, int(source.random.integers(length // 8, length // 3))))
    times = max(1, length // len(block) - 1)
    return [plain(block)], [Part(block, np.ones(len(block), bool))] * times


def texts(source: Source, length: int) -> tuple[list[Part], list[Part]]:
    """Running text in which nothing is asked; its last fifth is what is judged."""
    found = source.text(length).tokens
    last = length // 5
    return [], [plain(found[:-last], PLAIN), Part(found[-last:], np.zeros(last, bool), PLAIN)]


FAMILIES: Mapping[str, Callable[[Source, int], tuple[list[Part], list[Part]]]] = {
    "lists": lambda source, length: lists(source, length, hinted=False),
    "hinted": lambda source, length: lists(source, length, hinted=True),
    "pass_keys": pass_keys,
    "copies": copies,
    "passages": passages,
    "repeats": repeats,
    "texts": texts,
}
"""The families by name."""

RECALL = ("lists", "hinted", "pass_keys", "copies", "passages")
"""Families with answers that stand far above."""

TWICE = ("lists", "hinted", "pass_keys", "copies")
"""Families whose facts may be said twice."""
