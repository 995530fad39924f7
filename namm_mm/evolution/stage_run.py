"""One stage at work: its prompts, how candidates are scored on them, and its search space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from namm_mm import budgets
from namm_mm.evolution import fitness, prompts
from namm_mm.evolution.cma_es import CmaEs
from namm_mm.evolution.fitness import Fitness, Outcomes
from namm_mm.evolution.prompts import Prompt
from namm_mm.evolution.scoring import Conditions, Evaluation, Likelihood, Scorer, TaskScore
from namm_mm.evolution.search import FITTED, Recorder, SearchSpace, fit, indices, with_vector
from namm_mm.evolution.sep_cma import SepCma
from namm_mm.evolution.stages import StageSettings
from namm_mm.execution import Journal, Serial
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.policies.namm import NammPolicy
from namm_mm.registry import build

FIT_PROMPTS = 4  # on which fitted steps are measured


@dataclass(frozen=True, eq=False)
class Measured:
    """What candidates reached on a batch of prompts.

    Attributes
    ----------
    fitness
        (candidate,) float64.
    outcomes
        What it was made from.
    by_task
        Fitness on each task, without the price: (candidate,) float64.
    tokens, seconds
        Tokens that candidates processed, and the time that it took.
    """

    fitness: Tensor
    outcomes: Outcomes
    by_task: dict[str, Tensor]
    tokens: int
    seconds: float


class StageRun:
    """A stage, ready to evaluate.

    Parameters
    ----------
    settings
        The stage.
    seed
        Of samples and draws.
    adapter
        Loaded.
    namm
        The start: statistics, spectrogram and interval are taken from it.
    journal
        Of finished evaluations.

    Raises
    ------
    UsageError
        The task has too few prompts.
    """

    def __init__(
        self, settings: StageSettings, seed: int, adapter: Any, namm: Namm, journal: Journal
    ) -> None:
        from namm_mm.tasks import TASKS

        self.settings, self.seed, self.adapter, self.namm = settings, seed, adapter, namm
        self.task = build(TASKS, settings.task.name, settings.task.options)
        self.train = prompts.load(
            adapter, self.task, "train", settings.pool, settings.prompts, seed
        )
        self.fixed = prompts.load(
            adapter, self.task, "validation", settings.validation_prompts, 1, seed
        )
        self.conditions = Conditions(namm, budgets.parse(settings.budget), settings.storage)
        self.scorer: Scorer = (
            Likelihood(adapter, self.conditions)
            if settings.fitness == fitness.LIKELIHOOD
            else TaskScore(adapter, self.conditions, self.task)
        )
        self.rule = Fitness(settings.fitness, settings.price, settings.allowance)
        self.execution: Serial[Evaluation] = Serial(self.scorer, journal)

    def draw(self, generation: int) -> list[Prompt]:
        """Prompts of a generation."""
        name = f"{self.seed} {self.settings.name}"
        return self.train.draw(self.settings.prompts, generation, name)

    def evaluate(
        self,
        batch: Sequence[Prompt],
        vectors: Tensor,
        on_done: Callable[[int], None] | None = None,
    ) -> Measured:
        """Run candidates (candidate, parameter) float32 on all prompts of a batch."""
        references = self.execution.run([self.scorer.unit(prompt) for prompt in batch])
        units = [self.scorer.unit(prompt, vectors) for prompt in batch]
        results = self.execution.run(units, on_done)
        outcomes = Outcomes.collect(results, references, [prompt.family for prompt in batch])
        return Measured(
            fitness=self.rule(outcomes),
            outcomes=outcomes,
            by_task=self.rule.by_task(outcomes),
            tokens=sum(result["tokens"] for result in results),
            seconds=sum(result["seconds"] for result in results),
        )

    def space(self, origin: Tensor) -> SearchSpace:
        """Make the search space around a parameter vector; fitted steps run the model."""
        namm = with_vector(self.namm, origin)
        index = indices(namm.layout, self.settings.subspace)
        basis = None
        if self.settings.steps == FITTED:
            basis = fit(namm, index, self._watch(namm))
        return SearchSpace(origin.double(), index, basis)

    def _watch(self, namm: Namm) -> Recorder:
        """Run the start on a few prompts and remember what it is shown, from all layers."""
        policy = NammPolicy(namm, selection=self.conditions.selection)
        chosen = [self.train.prompt(sample) for sample in self.train.samples[:FIT_PROMPTS]]
        recorder = Recorder(policy)
        for prompt in chosen:
            with (
                torch.no_grad(),
                attach(
                    self.adapter.backbone,
                    recorder,
                    interval=namm.interval,
                    storage=self.settings.storage,
                ),
            ):
                self.adapter.backbone(**prompt.inputs.tensors, use_cache=True, logits_to_keep=1)
        return recorder

    def strategy(self, size: int, seed: int) -> CmaEs | SepCma:
        """Make the strategy, at point 0 of the search space."""
        start, settings = torch.zeros(size, dtype=torch.float64), self.settings
        if settings.strategy == "sep_cma":
            return SepCma(start, settings.sigma, settings.population, seed=seed)
        make = CmaEs.official if settings.strategy == "cma_official" else CmaEs
        return make(start, settings.sigma, settings.population, seed=seed)
