"""The long-text task: seeded questions about real text, answered by something said far above."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import ClassVar

from namm_mm.errors import UsageError, message
from namm_mm.records import Answer, Sample, Score
from namm_mm.records.shape import TEXT
from namm_mm.tasks.base import AnsweringTask, Outlook, fewer, names
from namm_mm.tasks.long_text import families as prose_families
from namm_mm.tasks.long_text import sources
from namm_mm.tasks.long_text.code import code
from namm_mm.tasks.long_text.families import Draft, Haystack, Shape
from namm_mm.tasks.long_text.repeats import repeats

TOKENS_PER_WORD = 1.5
VERSION = 1  # of the generators: a change that alters samples raises it, and with it fingerprints
FAMILIES: dict[str, Callable[[Haystack, Random, Shape], Draft]] = {
    "passkey": prose_families.passkey,
    "key_value_hint": partial(prose_families.key_value, hint=True),
    "key_value": partial(prose_families.key_value, hint=False),
    "passage": prose_families.passage,
    "cloze": prose_families.cloze,
    "repeats": repeats,
}
CODE = "code"
NAMES = (*FAMILIES, CODE)
DEFAULT = ("passkey", "key_value_hint", "passage", "cloze", "code")


@dataclass(frozen=True)
class LongTextTask(AnsweringTask):
    """Questions about a long text.

    Parameters
    ----------
    families
        ``passkey``, ``key_value_hint`` (the key is named before the list), ``key_value`` (it is
        not), ``passage``, ``cloze``, ``code`` and ``repeats``.
    words
        Words of each context, 100 or more; 600 are about 900 tokens.
    depth
        Parts of the context between which the answer is said.
    samples_per_family
        Size of each split, per family.
    source
        A folder of ``.txt`` files for the prose; None takes Python's own documentation.

    Raises
    ------
    UsageError
        An option is wrong.
    """

    holds: ClassVar[frozenset[str]] = frozenset({TEXT})

    families: Sequence[str] = DEFAULT
    words: int = 600
    depth: Sequence[float] = (0.08, 0.6)
    samples_per_family: int = 100
    source: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", names(self.families))
        object.__setattr__(self, "depth", tuple(self.depth))
        for family in self.families:
            if family not in NAMES:
                raise UsageError(
                    message("unknown family", given=family, expected="a known one", valid=NAMES)
                )
        if not self.families or len(set(self.families)) < len(self.families):
            raise UsageError(
                message("wrong families", given=self.families, expected="one or more, each once")
            )
        if self.words < 100:
            raise UsageError(message("wrong words", given=self.words, expected="100 or more"))
        if len(self.depth) != 2 or not 0 <= self.depth[0] < self.depth[1] <= 0.7:
            raise UsageError(
                message(
                    "wrong depth",
                    given=self.depth,
                    expected="two parts of the context, 0 <= low < high <= 0.7",
                )
            )
        if self.samples_per_family < 1:
            raise UsageError(
                message("wrong samples_per_family", given=self.samples_per_family, expected=">= 1")
            )
        if self.source is not None and not Path(self.source).expanduser().is_dir():
            raise UsageError(
                message(
                    "no such text source",
                    given=self.source,
                    expected="a folder with .txt files, or null for Python's own documentation",
                )
            )

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Return samples of `split`, families in turn; a smaller `limit` gives a prefix."""
        if split not in sources.SPLITS:
            raise UsageError(
                message("unknown split", given=split, expected="a known one", valid=sources.SPLITS)
            )
        whole = self.samples_per_family * len(self.families)
        size = whole if limit is None else min(limit, whole)
        return [self._sample(split, seed, *divmod(at, len(self.families))) for at in range(size)]

    def _sample(self, split: str, seed: int, number: int, family_at: int) -> Sample:
        family = self.families[family_at]
        name = f"{family}-{split}-{seed}-{number}"
        random = Random(f"{VERSION} {name} {self.words} {self.depth}")
        shape = Shape(self.words, self.depth[0], self.depth[1])
        if family == CODE:
            draft = code(_files(split), random, shape)
        else:
            draft = FAMILIES[family](_haystack(split, self.source), random, shape)
        return Sample(
            id=name,
            family=family,
            context=draft.context,
            question=draft.question,
            options=draft.options,
            answer=draft.answer,
            seed=seed,
            metadata=draft.metadata,
        )

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Return 1 for the exact answer, with nothing but punctuation or space behind it, else 0.

        ``details`` hold the log-probability of the right answer in nats, where the adapter gave it.
        """
        details = {}
        if sample.options and answer.option is not None:
            right = answer.option == sample.options.index(sample.answer)
            details["log_probability"] = answer.log_probabilities[
                sample.options.index(sample.answer)
            ]
        else:
            right = bool(re.match(rf"\s*{re.escape(sample.answer)}(?!\w)", answer.text))
            if len(answer.log_probabilities) == 1:
                details["log_probability"] = answer.log_probabilities[0]
        return Score(float(right), "accuracy" if sample.options else "exact_match", details)

    def outlook(self, split: str, limit: int | None = None) -> Outlook:
        """Return the size of the split, and about how many tokens a context has."""
        whole = self.samples_per_family * len(self.families)
        return Outlook(samples=fewer(whole, limit), tokens=round(self.words * TOKENS_PER_WORD))

    def fingerprint(self) -> str:
        """Return a hash of the generators, their options and all text behind them."""
        documents: list[sources.Document] = []
        for split in sources.SPLITS:
            if set(self.families) - {CODE}:
                documents += sources.prose(split, self.source)
            if CODE in self.families:
                documents += sources.code(split)
        options = [VERSION, self.families, self.words, self.depth, sources.fingerprint(documents)]
        return hashlib.sha256(json.dumps(options).encode()).hexdigest()[:12]


@lru_cache(maxsize=8)
def _haystack(split: str, source: str | None) -> Haystack:
    return Haystack([document.paragraphs for document in sources.prose(split, source)])


@lru_cache(maxsize=8)
def _files(split: str) -> tuple[str, ...]:
    return tuple(document.paragraphs[0] for document in sources.code(split))
