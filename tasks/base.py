"""The bases of all tasks.

A task knows data and scoring, and nothing of models. A class subclasses one of two bases: an
:class:`AnsweringTask` asks questions, an :class:`ActingTask` owns environments. What is not
abstract in a base is optional, and has a default there.

A class is registered, and built by the experiment as ``task_class(**options)`` with the options of
the configuration (``configs/task/NAME.yaml`` without `name`). Construction checks the options and
reads no data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeGuard

from namm_mm.records import Agent, Answer, Sample, Score
from namm_mm.records.shape import ACTING, ANSWERING, Shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from namm_mm.records import Record

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Download:
    """Files that a run fetches, unless they are on this machine.

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
        Command that fetches them on a machine with a network.
    note
        What to do first, such as to accept a licence.
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

    Attributes
    ----------
    samples
        How many samples would run; None where that is not known.
    tokens
        Tokens of a long prompt, where the model does not cut it; None where it is not known.
    new_tokens
        Tokens that are generated at most; 0 leaves it to the adapter.
    steps
        For environments, the steps of the longest episode.
    pictures
        Pictures of a sample at most; 0 for other samples.
    environment
        For environments, the name of the body that moves; empty where there is none.
    downloads
        Data files.
    """

    samples: int | None = None
    tokens: int | None = None
    new_tokens: int = 0
    steps: int = 1000
    pictures: int = 0
    environment: str = ""
    downloads: tuple[Download, ...] = ()


class Task(ABC):
    """What both shapes of task share; subclass one of the two below.

    Attributes
    ----------
    shape
        ``answering`` or ``acting``, as in the adapter that serves it.
    holds
        Kinds of content of its samples: ``text``, ``video``, ``image``, ``sound``, or one of the
        task's own. Empty does not say: every adapter of the same shape is tried.
    """

    shape: ClassVar[Shape]
    holds: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Return the samples of `split` (``train``, ``validation``, ``test``), balanced.

        The same arguments always give the same samples. A video that is missing or broken raises
        later, for its sample alone, when the adapter reads it.

        Parameters
        ----------
        split
            Which part of the data.
        limit
            How many samples at most; None takes all.
        seed
            Draws the samples that a limit leaves, or generates them.

        Raises
        ------
        UsageError
            A data file is malformed; the message names the file and the line.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a short hash of the data behind the samples, for records."""

    def missing(self, samples: Sequence[Sample]) -> Iterable[str]:
        """Return what `samples` lack so that a run makes no sense, one sentence each.

        It is asked before any model of a run is loaded; the default is nothing.
        """
        return ()

    def notices(self, samples: Sequence[Sample]) -> Sequence[str]:
        """Return what a user should know before `samples` run, such as which videos are missing.

        One sentence each; the default is none.
        """
        return ()

    @property
    def has_summary(self) -> bool:
        """Whether the task has a table of its own: true where it overrides :meth:`summary`."""
        return type(self).summary is not Task.summary

    def summary(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the benchmark's own table of the records of one cell (JSON values only).

        The default is empty: the task has no table of its own, and none is written.

        Parameters
        ----------
        records
            Of one cell, all policies.
        """
        return {}

    def summary_lines(self, summary: Mapping[str, Any], cell: str) -> Sequence[str]:
        """Return a table of :meth:`summary` in words, one line for each policy of `cell`."""
        return ()

    def outlook(self, split: str, limit: int | None = None) -> Outlook:
        """Return what a plan can know before anything is fetched; the default knows the limit."""
        return Outlook(samples=limit)


class AnsweringTask(Task):
    """A sample in, an answer out."""

    shape: ClassVar[Shape] = ANSWERING

    @abstractmethod
    def score(self, sample: Sample, answer: Answer) -> Score:
        """Return the score of one answer; higher is better."""


@dataclass(frozen=True)
class Episode:
    """One finished environment.

    Attributes
    ----------
    sample
        The sample (environment and seed) that was played.
    score
        Its score; ``details`` hold at least ``return`` and ``length``.
    row
        Its row in the agent's batch, to find its part of the memory.
    rewards
        Reward of each step.
    details
        Further facts for the record (JSON values only).
    error
        Empty, or one line that says why the episode could not be finished. Its score then does not
        count.
    """

    sample: Sample
    score: Score
    row: int
    rewards: tuple[float, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


class ActingTask(Task):
    """The task owns and steps the environments; the adapter's agent acts in a batch of them."""

    shape: ClassVar[Shape] = ACTING

    @abstractmethod
    def dimensions(self) -> tuple[int, int]:
        """Return state and action dimension; they are compared with the model's before a run."""

    @abstractmethod
    def target_return(self) -> float:
        """Return the return that the agent is asked for, in units of reward."""

    @abstractmethod
    def play(
        self,
        samples: Sequence[Sample],
        agent: Agent,
        *,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[Episode]:
        """Play all `samples` side by side, one environment each, and yield each episode.

        Parameters
        ----------
        samples
            One for each environment, in the order of the agent's rows.
        agent
            Acts in all of them at once.
        on_step
            ``on_step(step, alive)`` is called after every step, for progress.
        """


def is_acting(task: Task) -> TypeGuard[ActingTask]:
    """Return whether a task is of the acting shape."""
    return isinstance(task, ActingTask)


def fewer(size: int | None, limit: int | None) -> int | None:
    """Return the smaller of a split's size and a limit, either of which may be unknown."""
    return min((number for number in (size, limit) if number is not None), default=None)


def names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return several names, or the only one: ``task.families=order`` on a command line."""
    return (given,) if isinstance(given, str) else tuple(given)
