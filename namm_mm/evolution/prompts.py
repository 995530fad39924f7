"""Prompts of a task: each is tokenised once; every generation draws some of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from namm_mm.errors import UsageError, message
from namm_mm.records import Inputs, Sample

if TYPE_CHECKING:
    from namm_mm.adapters.base import LanguageAdapter
    from namm_mm.tasks.base import AnsweringTask


@dataclass(frozen=True, eq=False)
class Prompt:
    """A tokenised sample.

    Attributes
    ----------
    inputs
        The tokens of the prompt, and its sample.
    answer
        Tokens of the right answer.
    digest
        Hash of both.
    """

    inputs: Inputs
    answer: tuple[int, ...]
    digest: str

    @property
    def family(self) -> str:
        """The task that the prompt counts for: fitness is a mean over tasks."""
        return self.inputs.sample.family


class Tokenized:
    """Makes prompts of samples, each once.

    Parameters
    ----------
    adapter
        A loaded adapter.
    """

    def __init__(self, adapter: LanguageAdapter) -> None:
        self.adapter = adapter
        self._made: dict[tuple[str, str], Prompt] = {}

    def prompt(self, sample: Sample) -> Prompt:
        """Return the prompt of a sample; it is tokenised the first time."""
        key = (sample.id, sample.context)  # tasks with other lengths use the same ids
        if key not in self._made:
            inputs = self.adapter.prepare(sample)
            answer = tuple(self.adapter.continuation(sample, sample.answer))
            tokens = [inputs.tensors["input_ids"].flatten().tolist(), answer]
            digest = hashlib.sha256(repr((sample.id, tokens)).encode()).hexdigest()
            self._made[key] = Prompt(inputs, answer, digest)
        return self._made[key]


class Prompts:
    """The prompts of one split.

    Parameters
    ----------
    tokenized
        Makes them.
    samples
        The samples of the split.
    """

    def __init__(self, tokenized: Tokenized, samples: Sequence[Sample]) -> None:
        self.samples = tuple(samples)
        self.families = tuple(dict.fromkeys(sample.family for sample in samples))
        self._tokenized = tokenized

    def all(self) -> list[Prompt]:
        """Return every prompt, in the order of the task."""
        return [self.prompt(sample) for sample in self.samples]

    def draw(self, count: int, generation: int, seed: str) -> list[Prompt]:
        """Return `count` prompts for a generation, without repetition, evenly from all families.

        Where `count` is not a multiple of the number of families, other families get one prompt
        more in the next generation. The same arguments always draw the same prompts.
        """
        random = Random(f"{seed} {generation}")
        chosen = []
        for index, family in enumerate(self.families):
            share, rest = divmod(count, len(self.families))
            turn = (index - generation * rest) % len(self.families)
            members = [sample for sample in self.samples if sample.family == family]
            chosen += random.sample(members, share + (turn < rest))
        return [self.prompt(sample) for sample in chosen]

    def prompt(self, sample: Sample) -> Prompt:
        """Return the prompt of a sample."""
        return self._tokenized.prompt(sample)


def load(
    adapter: LanguageAdapter | Tokenized,
    task: AnsweringTask,
    split: str,
    size: int | None,
    per_draw: int,
    seed: int,
) -> Prompts:
    """Return the prompts of a split.

    Parameters
    ----------
    adapter
        A loaded adapter, or the :class:`Tokenized` of one.
    size
        Number of samples; None takes all samples of the split.
    per_draw
        Number of prompts of one draw.

    Raises
    ------
    UsageError
        The task has fewer samples than `size`, or too few of a family for a draw.
    """
    samples = task.samples(split, size, seed)
    if size is not None and len(samples) < size:
        raise UsageError(
            message(
                f"the task has too few prompts to {split} on",
                given=f"{len(samples)} prompts",
                expected=f"the {size} that are asked for",
                then="Ask for fewer, or let the task make more (samples_per_family).",
            )
        )
    samples = [sample for sample in samples if not sample.fault]  # nothing can be learned of these
    tokenized = adapter if isinstance(adapter, Tokenized) else Tokenized(adapter)
    prompts = Prompts(tokenized, samples)
    needed = -(-per_draw // max(1, len(prompts.families)))
    for family in prompts.families or ("any",):
        found = sum(sample.family == family for sample in samples)
        if found < needed:
            raise UsageError(
                message(
                    f"the task has too few {split} prompts of the family {family!r}",
                    given=f"{found} prompts",
                    expected=f"{needed} for a generation of {per_draw}",
                    then="Ask for fewer prompts, or for a larger pool.",
                )
            )
    return prompts
