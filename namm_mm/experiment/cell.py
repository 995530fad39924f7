"""A cell of an experiment that runs: an adapter, a task, and their policies."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from namm_mm.adapters.base import ActingAdapter, Adapter, AnsweringAdapter
from namm_mm.errors import NammWarning, RunError, UsageError, message
from namm_mm.experiment import kept
from namm_mm.experiment.settings import OWN_BUDGET, CellSettings, PolicySettings
from namm_mm.memory import attach
from namm_mm.policies import budgets, create
from namm_mm.records import Answer, Asked, Media, Provenance, Record, Sample, Score, TokenType
from namm_mm.records.shape import ACTING, ANSWERING, Shape
from namm_mm.tasks.base import ActingTask, AnsweringTask, Task

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from namm_mm.memory import Memory
    from namm_mm.memory.watch import Watcher
    from namm_mm.policies.base import Policy
    from namm_mm.records import ReencodingAgent


@dataclass(frozen=True)
class Result:
    """The result of one sample under one policy.

    Attributes
    ----------
    sample, answer, score
        The sample, the model's answer, and the task's score of it.
    token_types
        One for each token of the prompt, or of the episode.
    seconds
        Wall time of the whole sample.
    media
        Files that show the sample.
    details
        What the adapter and the task add to the record (JSON values only).
    """

    sample: Sample
    answer: Answer
    score: Score
    token_types: Sequence[TokenType]
    seconds: float
    media: Media = Media()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A cell with a loaded model; the same for all its samples.

    Attributes
    ----------
    experiment
        Name of the experiment.
    dataset
        Fingerprint of the task's data.
    seed
        The experiment's seed: it draws the samples, and the scores of the random policy.
    folder
        The run folder, for pictures of some samples; None for none.
    """

    experiment: str
    settings: CellSettings
    adapter: Adapter
    task: Task
    dataset: str
    seed: int
    provenance: Provenance
    folder: Path | None = None

    @property
    def runs(self) -> tuple[PolicySettings, ...]:
        """The policies; those that others match come first."""
        followers = [budgets.matched_policy(p.budget) is not None for p in self.settings.policies]
        return tuple(
            policy
            for later in (False, True)
            for policy, follows in zip(self.settings.policies, followers, strict=True)
            if follows is later
        )

    def answering(self) -> tuple[AnsweringAdapter, AnsweringTask]:
        """Return adapter and task of a cell that asks questions.

        Raises
        ------
        UsageError
            One of them is of the other shape.
        """
        if isinstance(self.adapter, AnsweringAdapter) and isinstance(self.task, AnsweringTask):
            return self.adapter, self.task
        raise self._misfit(ANSWERING)

    def acting(self) -> tuple[ActingAdapter, ActingTask]:
        """Return adapter and task of a cell that plays in environments.

        Raises
        ------
        UsageError
            One of them is of the other shape.
        """
        if isinstance(self.adapter, ActingAdapter) and isinstance(self.task, ActingTask):
            return self.adapter, self.task
        raise self._misfit(ACTING)

    def _misfit(self, shape: Shape) -> UsageError:
        return UsageError(
            message(
                f"cells.{self.settings.name}: the adapter does not fit the task",
                given=f"{self.settings.adapter.name} ({self.adapter.shape}) and "
                f"{self.settings.task.name} ({self.task.shape})",
                expected=f"two that are {shape}",
                then="`namm-mm list` shows which is which.",
            )
        )

    def policy(self, settings: PolicySettings, traces: budgets.Traces) -> Policy:
        """Build and return a policy under its budget.

        A policy with a field ``seed`` gets the experiment's seed unless its options name one.

        Raises
        ------
        RunError
            It matches a run that failed on this sample.
        """
        followed = budgets.matched_policy(settings.budget)
        if followed is not None and followed not in traces:
            raise RunError(f"nothing to match: {followed} failed on this sample")
        policy = create(settings.name, **settings.options)
        changes: dict[str, Any] = {}
        if "seed" in {field.name for field in dataclasses.fields(policy)} - set(settings.options):
            changes["seed"] = self.seed
        if settings.budget != OWN_BUDGET:
            changes["budget"] = budgets.parse(settings.budget, traces)
        return dataclasses.replace(policy, **changes)

    def attach(
        self, policy: Policy, watcher: Watcher | None = None
    ) -> AbstractContextManager[Memory]:
        """Return the context in which a memory is attached to the adapter's backbone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NammWarning)  # the notes of the run contain it
            return attach(
                self.adapter.backbone,
                policy,
                interval=self.settings.interval,
                storage=self.settings.storage,
                protocol=self.settings.protocol,
                watcher=watcher,
            )

    def scored(
        self, result: Result, policy: Policy, memory: Memory | ReencodingAgent, row: int = 0
    ) -> Record:
        """Return the record of a sample that was scored; `memory` reports what `row` held."""
        fractions = kept.kept_fractions(memory, result.token_types, row)
        answer, score = result.answer, result.score
        return dataclasses.replace(
            self._record(result.sample, policy.name, policy.selection.describe()),
            value=float(score.value),
            metric=score.metric,
            answer=answer.text,
            memory=memory.usage(row),
            kept_by_kind=kept.by_kind(fractions, result.token_types),
            kept_by_index=kept.by_index(fractions, result.token_types),
            seconds=result.seconds,
            first_token_seconds=answer.first_token_seconds,
            token_seconds=answer.token_seconds,
            media=result.media,
            details={**self.adapter.facts, **score.details, **result.details},
        )

    def failed(self, sample: Sample, settings: PolicySettings, error: Exception) -> Record:
        """Return the record of a sample that could not be scored, with one line that says why."""
        policy, budget = labels(settings)
        what = str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
        blank = self._record(sample, policy, budget)
        return dataclasses.replace(blank, error=" ".join(what.split()))

    def _record(self, sample: Sample, policy: str, budget: str) -> Record:
        """Return a record of what is run, without a result."""
        return Record(
            experiment=self.experiment,
            adapter=self.settings.adapter.name,
            model=self.adapter.model_name,
            task=self.settings.task.name,
            dataset=self.dataset,
            policy=policy,
            budget=budget,
            storage=self.settings.storage,
            protocol=self.settings.protocol,
            interval=self.settings.interval,
            sample=sample.id,
            family=sample.family,
            seed=self.seed,
            asked=asked(sample),
            details=dict(self.adapter.facts),
            provenance=self.provenance,
        )


def labels(settings: PolicySettings) -> tuple[str, str]:
    """Return the policy and the budget that records of these settings name.

    A policy on top of another names both, and may spend its budget in a way of its own.
    """
    policy = create(settings.name, **settings.options)
    if budgets.matched_policy(settings.budget) is not None:
        return policy.name, settings.budget
    if settings.budget != OWN_BUDGET:
        policy = dataclasses.replace(policy, budget=budgets.parse(settings.budget))
    return policy.name, policy.selection.describe()


def asked(sample: Sample) -> Asked:
    """Return what `sample` asks of the model; all fields are empty for an environment."""
    video = sample.video.name if sample.video else ""
    return Asked(sample.question, sample.options, sample.answer, video)


class Stopwatch:
    """Measures wall time from its construction on."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time so far, in seconds."""
        return time.perf_counter() - self.start
