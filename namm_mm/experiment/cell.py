"""One cell of an experiment at work: an adapter, a task, and the policies to run them under."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from namm_mm.errors import RunError
from namm_mm.experiment import kept
from namm_mm.experiment.settings import OWN_BUDGET, CellSettings, PolicySettings
from namm_mm.policies import budgets
from namm_mm.records import Answer, MemoryUse, Provenance, Record, Role, Sample, Score

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from namm_mm.memory import Memory
    from namm_mm.memory.watch import Watcher
    from namm_mm.policies.base import Policy


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
            selection = budgets.parse(settings.budget, policy.selection, traces)
            policy = dataclasses.replace(policy, selection=selection)
        return policy  # type: ignore[no-any-return]

    def attach(
        self, policy: Policy, watcher: Watcher | None = None
    ) -> AbstractContextManager[Memory]:
        """Attach a memory to the adapter's backbone, as the settings say."""
        from namm_mm.memory import attach

        return attach(
            self.adapter.backbone,
            policy,
            interval=self.settings.interval,
            storage=self.settings.storage,
            protocol=self.settings.protocol,
            watcher=watcher,
        )

    def scored(
        self,
        sample: Sample,
        policy: Policy,
        answer: Answer,
        score: Score,
        memory: kept.Holder,
        roles: Sequence[Role],
        *,
        seconds: float,
        row: int = 0,
        details: Mapping[str, Any] | None = None,
    ) -> Record:
        """Record of a sample that went well."""
        fractions = kept.kept_fractions(memory, roles, row)
        return self._record(
            sample,
            policy.name,
            policy.selection.describe(),
            value=float(score.value),
            metric=score.metric,
            answer=answer.text,
            memory=memory.usage(row),
            kept_by_role=kept.by_role(fractions, roles),
            kept_by_index=kept.by_index(fractions, roles),
            seconds=seconds,
            first_token_seconds=answer.first_token_seconds,
            token_seconds=answer.token_seconds,
            details={**score.details, **(details or {})},
        )

    def failed(self, sample: Sample, settings: PolicySettings, error: Exception) -> Record:
        """Record of a sample that could not be scored: one line that says why."""
        budget = self.budget_words(settings)
        what = str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
        return self._record(sample, settings.name, budget, error=" ".join(what.split()))

    def budget_words(self, settings: PolicySettings) -> str:
        """The words that a record of a sample that went well would have."""
        from namm_mm.policies import create

        if budgets.matched_policy(settings.budget) is not None:
            return settings.budget
        own = create(settings.name, **settings.options).selection
        if settings.budget == OWN_BUDGET:
            return own.describe()
        return budgets.parse(settings.budget, own).describe()

    def _record(
        self,
        sample: Sample,
        policy: str,
        budget: str,
        *,
        value: float | None = None,
        metric: str = "",
        answer: str = "",
        memory: MemoryUse | None = None,
        kept_by_role: Mapping[str, float] | None = None,
        kept_by_index: Mapping[str, Sequence[float]] | None = None,
        seconds: float = 0.0,
        first_token_seconds: float = 0.0,
        token_seconds: float = 0.0,
        error: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Record:
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
            value=value,
            metric=metric,
            answer=answer,
            memory=memory,
            kept_by_role=kept_by_role or {},
            kept_by_index=kept_by_index or {},
            seconds=seconds,
            first_token_seconds=first_token_seconds,
            token_seconds=token_seconds,
            error=error,
            provenance=self.provenance,
            details={**asked(sample), **_facts(self.adapter), **(details or {})},
        )


def asked(sample: Sample) -> dict[str, Any]:
    """What was asked of the model, for the tables of answers; empty for an environment."""
    found = {
        "question": sample.question,
        "options": list(sample.options),
        "right": sample.answer,
        "video": sample.video.name if sample.video else "",
    }
    return {name: value for name, value in found.items() if value}


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
