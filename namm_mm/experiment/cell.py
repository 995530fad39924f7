"""One cell of an experiment at work: an adapter, a task, and the policies to run them under."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from namm_mm.errors import NammWarning, RunError
from namm_mm.experiment import kept
from namm_mm.experiment.settings import OWN_BUDGET, CellSettings, PolicySettings
from namm_mm.policies import budgets
from namm_mm.records import Answer, Asked, Media, Provenance, Record, Sample, Score, TokenType

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from namm_mm.memory import Memory
    from namm_mm.memory.watch import Watcher
    from namm_mm.policies.base import Policy
    from namm_mm.records import ReencodingAgent


@dataclass(frozen=True)
class Result:
    """How one sample went under one policy.

    Attributes
    ----------
    sample, answer, score
        What was asked, what the model said, and what the task made of it.
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
    """A loaded cell; the same for all its samples.

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
    adapter: Any
    task: Any
    dataset: str
    seed: int
    provenance: Provenance
    folder: Path | None = None

    @property
    def runs(self) -> tuple[PolicySettings, ...]:
        """The policies, those that others match before those that match."""
        followers = [budgets.matched_policy(p.budget) is not None for p in self.settings.policies]
        return tuple(
            policy
            for later in (False, True)
            for policy, follows in zip(self.settings.policies, followers, strict=True)
            if follows is later
        )

    def policy(self, settings: PolicySettings, traces: budgets.Traces) -> Policy:
        """Build a policy under its budget.

        Raises
        ------
        RunError
            It matches a run that failed on this sample.
        """
        from namm_mm.policies import create

        followed = budgets.matched_policy(settings.budget)
        if followed is not None and followed not in traces:
            raise RunError(f"nothing to match: {followed} failed on this sample")
        policy: Any = create(settings.name, **settings.options)
        if "seed" not in settings.options and hasattr(policy, "seed"):
            policy = dataclasses.replace(policy, seed=self.seed)
        if settings.budget != OWN_BUDGET:
            selection = budgets.parse(settings.budget, traces)
            policy = dataclasses.replace(policy, budget=selection)
        return policy  # type: ignore[no-any-return]

    def attach(
        self, policy: Policy, watcher: Watcher | None = None
    ) -> AbstractContextManager[Memory]:
        """Attach a memory to the adapter's backbone, as the settings say."""
        from namm_mm.memory import attach

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NammWarning)  # the notes of the run say it once
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
        """Return the record of a sample that was scored; `memory` tells what `row` held."""
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
            details={**_facts(self.adapter), **score.details, **result.details},
        )

    def failed(self, sample: Sample, settings: PolicySettings, error: Exception) -> Record:
        """Return the record of a sample that could not be scored, with one line that says why."""
        budget = self.budget_words(settings)
        what = str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
        blank = self._record(sample, settings.name, budget)
        return dataclasses.replace(blank, error=" ".join(what.split()))

    def budget_words(self, settings: PolicySettings) -> str:
        """The words that a record of a sample that went well would have."""
        from namm_mm.policies import create

        if budgets.matched_policy(settings.budget) is not None:
            return settings.budget
        own = create(settings.name, **settings.options).selection
        if settings.budget == OWN_BUDGET:
            return own.describe()
        return budgets.parse(settings.budget).describe()

    def _record(self, sample: Sample, policy: str, budget: str) -> Record:
        """Return a record that says what was run, and nothing of how it went."""
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
            details=dict(_facts(self.adapter)),
            provenance=self.provenance,
        )


def asked(sample: Sample) -> Asked:
    """Return what `sample` asks of the model; all fields are empty for an environment."""
    video = sample.video.name if sample.video else ""
    return Asked(sample.question, sample.options, sample.answer, video)


def _facts(adapter: Any) -> Mapping[str, Any]:
    """What an adapter says of how it runs its model; some have other things of that name."""
    found = getattr(adapter, "facts", None)
    return found if isinstance(found, Mapping) else {}


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self.start
