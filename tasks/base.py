"""The door for benchmarks: what a task must do.

A task knows data and scoring, and nothing of models. A class is registered, and built by the
experiment as ``task_class(**options)`` with the options of the configuration
(``configs/task/NAME.yaml`` without `name`); construction validates them and reads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from namm_mm.records import Agent, Answer, Sample, Score

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Download:
    """Files that a run would fetch, or has.

    Attributes
    ----------
    what
        Hub id or URL.
    files
        Which files of it, in words.
    bytes
        Their size; None where it is not known.
    cached
        Whether they are on this machine.
    where
        Folder that they are expected in.
    command
        What gets them on a machine with a network.
    note
        Anything to do first, such as to accept a licence.
    """

    what: str
    files: str
    bytes: int | None
    cached: bool
    where: str = ""
    command: str = ""
    note: str = ""


@dataclass(frozen=True)
class Outlook:
    """What a plan can know of a task before anything of it is fetched or made.

    A task that has a method ``outlook(split) -> Outlook`` is planned with it; it is optional.

    Attributes
    ----------
    samples
        Size of the split; None where it is not known.
    tokens
        Tokens of a long prompt, where the model does not cut it; None where it is not known.
    new_tokens
        Tokens that are generated at most; 0 leaves it to the adapter.
    downloads
        Data files.
    """

    samples: int | None = None
    tokens: int | None = None
    new_tokens: int = 0
    downloads: tuple[Download, ...] = ()


@runtime_checkable
class Task(Protocol):
    """What both shapes of task share."""

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Samples of `split` (``train``, ``validation``, ``test``), at most `limit`, balanced.

        The same arguments always give the same samples. A malformed data file raises a `UsageError`
        that names the file and the line; one missing or broken video does not: it raises later, for
        that sample alone, when the adapter reads it.
        """
        ...

    def fingerprint(self) -> str:
        """Short hash of the data behind the samples, for records."""
        ...


@runtime_checkable
class AnsweringTask(Task, Protocol):
    """A sample in, an answer out."""

    def score(self, sample: Sample, answer: Answer) -> Score:
        """Judge one answer."""
        ...


@dataclass(frozen=True)
class Episode:
    """One finished environment.

    Attributes
    ----------
    sample
        The sample (environment and seed) that it played.
    score
        Its score; ``details`` hold at least ``return`` and ``length``.
    row
        Its row in the agent's batch, to find its part of the memory.
    rewards
        Reward of each step.
    error
        Empty, or one line on why the episode could not be finished; its score then does not count.
    """

    sample: Sample
    score: Score
    row: int
    rewards: tuple[float, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


@runtime_checkable
class ActingTask(Task, Protocol):
    """The task owns and steps the environments; the adapter's agent acts in a batch of them."""

    def dimensions(self) -> tuple[int, int]:
        """State and action dimension, to be compared with the model's before anything runs."""
        ...

    def target_return(self) -> float:
        """The return that the agent is asked for."""
        ...

    def play(
        self,
        samples: Sequence[Sample],
        agent: Agent,
        *,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[Episode]:
        """Play all `samples` side by side, one environment each, and yield each episode.

        `on_step(step, alive)` is called after every step, for progress.
        """
        ...


def names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Several names, or the only one: ``task.families=order`` on a command line."""
    return (given,) if isinstance(given, str) else tuple(given)


SPLITS = ("train", "validation", "test")


def is_acting(component: object) -> bool:
    """Whether an adapter or a task is of the acting shape.

    Asked of the class: properties of an adapter that is not loaded yet may raise.
    """
    return hasattr(type(component), "agent") or hasattr(type(component), "play")
