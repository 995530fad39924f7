"""Evaluate candidates in this process, or in workers that each hold the model.

A :class:`Trial` travels to a worker: a sample, candidates and a key, but no tokens. Every process
tokenises a sample once and checks that it computes the same key as the process that searches.
Another model, dtype or task would give other results under the same key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from namm_mm.adapters import ADAPTERS
from namm_mm.adapters.base import LanguageAdapter
from namm_mm.errors import RunError, UsageError, message
from namm_mm.evolution import fitness
from namm_mm.evolution.prompts import Prompt, Tokenized
from namm_mm.evolution.scoring import Conditions, Likelihood, Scorer, TaskScore
from namm_mm.evolution.settings import StageSettings
from namm_mm.policies import budgets
from namm_mm.registry.registry import build
from namm_mm.tasks import TASKS
from namm_mm.tasks.base import AnsweringTask

if TYPE_CHECKING:
    from torch import Tensor

    from namm_mm.execution.base import Result
    from namm_mm.namm import Namm
    from namm_mm.records import Sample
    from namm_mm.registry.reader import Choice


@dataclass(frozen=True, eq=False)
class Trial:
    """One prompt for all candidates of a generation, or with the full cache.

    Attributes
    ----------
    key
        Hash of everything that the result depends on.
    stage
        Index of the stage, which says how candidates are scored.
    sample
        The question.
    vectors
        (candidate, parameter) float32 on the CPU; None runs the full cache.
    """

    key: str
    stage: int
    sample: Sample
    vectors: Tensor | None = None


@dataclass(frozen=True, eq=False)
class StageTools:
    """What one stage needs to evaluate candidates.

    Attributes
    ----------
    task
        The task of the stage.
    prompts
        Makes prompts of its samples.
    conditions
        How candidates are run.
    scorer
        Scores candidates on a prompt.
    """

    task: AnsweringTask
    prompts: Tokenized
    conditions: Conditions
    scorer: Scorer

    @classmethod
    def make(cls, stage: StageSettings, adapter: LanguageAdapter, namm: Namm) -> StageTools:
        """Make them for a loaded adapter; `namm` is the start of the search."""
        task = make_task(stage.task)
        conditions = Conditions(namm, budgets.parse(stage.budget), stage.storage, stage.probed)
        scorer: Scorer = TaskScore(adapter, conditions, task)
        if stage.fitness == fitness.LIKELIHOOD:
            scorer = Likelihood(adapter, conditions)
        return cls(task, Tokenized(adapter), conditions, scorer)


class Evaluator:
    """Evaluates the trials of all stages with one loaded model.

    Parameters
    ----------
    adapter
        A loaded adapter.
    stages
        The stages of the evolution.
    namm
        The start of the search.
    """

    def __init__(
        self, adapter: LanguageAdapter, stages: Sequence[StageSettings], namm: Namm
    ) -> None:
        self.adapter, self.stages, self.namm = adapter, stages, namm
        self._tools: dict[int, StageTools] = {}

    def tools(self, stage: int) -> StageTools:
        """Return the tools of a stage; they are made at the first call."""
        if stage not in self._tools:
            self._tools[stage] = StageTools.make(self.stages[stage], self.adapter, self.namm)
        return self._tools[stage]

    def trial(self, stage: int, prompt: Prompt, vectors: Tensor | None = None) -> Trial:
        """Return the unit of work of a prompt."""
        vectors = None if vectors is None else vectors.cpu()
        key = self.tools(stage).scorer.key(prompt, vectors)
        return Trial(key, stage, prompt.inputs.sample, vectors)

    def __call__(self, trial: Trial) -> Result:
        """Evaluate a trial; see :meth:`namm_mm.evolution.scoring.Scorer.score`.

        Raises
        ------
        RunError
            This process computes another key than the process that made the trial.
        """
        tools = self.tools(trial.stage)
        prompt = tools.prompts.prompt(trial.sample)
        key = tools.scorer.key(prompt, trial.vectors)
        if key != trial.key:
            raise RunError(
                message(
                    f"this worker would score {trial.sample.id!r} in another way",
                    given=key,
                    expected=f"the key {trial.key}: the same model, dtype, kind of device and "
                    "package on all machines",
                    then="Set adapter.device and adapter.dtype to a value other than auto.",
                )
            )
        return tools.scorer.score(prompt, trial.vectors)


def make_evaluator(choice: Choice, stages: Sequence[StageSettings], namm: Namm) -> Evaluator:
    """Load the model and return an evaluator: the factory of a worker."""
    adapter = make_adapter(choice)
    adapter.load()
    return Evaluator(adapter, stages, namm)


def make_adapter(choice: Choice) -> LanguageAdapter:
    """Build and return the adapter that a NAMM is evolved on; nothing is loaded.

    Raises
    ------
    UsageError
        It is unknown, or no :class:`~namm_mm.adapters.base.LanguageAdapter`.
    """
    adapter = build(ADAPTERS, choice.name, choice.options)
    if isinstance(adapter, LanguageAdapter):
        return adapter
    raise _unfit(choice, "adapter", "a LanguageAdapter, which tokenises answers, such as text")


def make_task(choice: Choice) -> AnsweringTask:
    """Build and return the task of a stage.

    Raises
    ------
    UsageError
        It is unknown, or asks no questions.
    """
    task = build(TASKS, choice.name, choice.options)
    if isinstance(task, AnsweringTask):
        return task
    raise _unfit(choice, "task", "an answering task, such as long_text")


def _unfit(choice: Choice, kind: str, expected: str) -> UsageError:
    what = f"the {kind} cannot be used in an evolution"
    return UsageError(message(what, given=choice.name, expected=expected))
