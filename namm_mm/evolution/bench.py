"""Where candidates are tried: in this process, or in workers that each hold the model.

A :class:`Trial` is what travels: a sample, candidates and a key, but no tokens. Every process
tokenises a sample once, and checks that it came to the same key as the process that asked: another
model, dtype or task would give other numbers under the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from namm_mm.errors import RunError, message
from namm_mm.evolution import fitness
from namm_mm.evolution.prompts import Prompt, Tokenized
from namm_mm.evolution.scoring import Conditions, Likelihood, Scorer, TaskScore
from namm_mm.evolution.stages import StageSettings
from namm_mm.policies import budgets
from namm_mm.registry.registry import build

if TYPE_CHECKING:
    from torch import Tensor

    from namm_mm.execution.base import Result
    from namm_mm.namm import Namm
    from namm_mm.records import Sample
    from namm_mm.registry.reader import Choice


@dataclass(frozen=True, eq=False)
class Trial:
    """One prompt for some candidates, or with the full cache.

    Attributes
    ----------
    key
        Hash of all that the result depends on.
    stage
        Index of the stage, which says how it is scored.
    sample
        What is asked.
    vectors
        (candidate, parameter) float32 on the CPU; None asks for the full cache.
    """

    key: str
    stage: int
    sample: Sample
    vectors: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Bench:
    """What one stage needs to try candidates.

    Attributes
    ----------
    task
        Built.
    prompts
        Samples to prompts, each tokenised once.
    conditions
        How candidates are run.
    scorer
        Does evaluations.
    """

    task: Any
    prompts: Tokenized
    conditions: Conditions
    scorer: Scorer

    @classmethod
    def make(cls, stage: StageSettings, adapter: Any, namm: Namm) -> Bench:
        """Make it for a loaded adapter; `namm` is the start."""
        from namm_mm.tasks import TASKS

        task = build(TASKS, stage.task.name, stage.task.options)
        conditions = Conditions(namm, budgets.parse(stage.budget), stage.storage)
        scorer: Scorer = (
            Likelihood(adapter, conditions)
            if stage.fitness == fitness.LIKELIHOOD
            else TaskScore(adapter, conditions, task)
        )
        return cls(task, Tokenized(adapter), conditions, scorer)


class Evaluator:
    """Does trials of all stages with one loaded model.

    Parameters
    ----------
    adapter
        Loaded.
    stages
        Of the evolution.
    namm
        Its start.
    """

    def __init__(self, adapter: Any, stages: Sequence[StageSettings], namm: Namm) -> None:
        self.adapter, self.stages, self.namm = adapter, stages, namm
        self._benches: dict[int, Bench] = {}

    def bench(self, stage: int) -> Bench:
        """Bench of a stage, made when it is first needed."""
        if stage not in self._benches:
            self._benches[stage] = Bench.make(self.stages[stage], self.adapter, self.namm)
        return self._benches[stage]

    def trial(self, stage: int, prompt: Prompt, vectors: Tensor | None = None) -> Trial:
        """Make the unit of work of a prompt."""
        held = None if vectors is None else vectors.cpu()
        key = self.bench(stage).scorer.unit(prompt, held).key
        return Trial(key, stage, prompt.inputs.sample, held)

    def __call__(self, trial: Trial) -> Result:
        """Do a trial: see :class:`namm_mm.evolution.scoring.Scorer`.

        Raises
        ------
        RunError
            Here the trial has another key than where it was made.
        """
        bench = self.bench(trial.stage)
        unit = bench.scorer.unit(bench.prompts.prompt(trial.sample), trial.vectors)
        if unit.key != trial.key:
            raise RunError(
                message(
                    f"this worker would score {trial.sample.id!r} in another way",
                    given=unit.key,
                    expected=f"the key {trial.key}: the same model, dtype, kind of device and "
                    "package on all machines",
                    then="Name them: adapter.device and adapter.dtype must not be auto where "
                    "machines differ.",
                )
            )
        return bench.scorer(unit)


def make_evaluator(choice: Choice, stages: Sequence[StageSettings], namm: Namm) -> Evaluator:
    """Load the model and make an evaluator: what a worker does before its first trial."""
    from namm_mm.adapters import ADAPTERS

    adapter = build(ADAPTERS, choice.name, choice.options)
    adapter.load()
    return Evaluator(adapter, stages, namm)
