"""One stage at work: its prompts, the evaluation of candidates, its search space and strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from namm_mm.evolution import prompts
from namm_mm.evolution.cma_es import CmaEs
from namm_mm.evolution.evaluator import Evaluator, Trial
from namm_mm.evolution.fitness import Fitness, Outcomes
from namm_mm.evolution.prompts import Prompt
from namm_mm.evolution.search_space import FITTED, Recorder, SearchSpace, fit_steps, indices
from namm_mm.evolution.sep_cma import SepCma
from namm_mm.evolution.strategy import Strategy
from namm_mm.execution import Execution
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.policies.namm import NammPolicy

FIT_PROMPTS = 4  # from which fitted steps are measured


@dataclass(frozen=True, eq=False)
class Measured:
    """What candidates reached on a batch of prompts.

    Attributes
    ----------
    fitness
        (candidate,) float64.
    outcomes
        The values that it was computed from.
    by_task
        Fitness on each task, without the penalty: (candidate,) float64.
    tokens, seconds
        Tokens that all candidates processed, and the time that this took.
    """

    fitness: Tensor
    outcomes: Outcomes
    by_task: dict[str, Tensor]
    tokens: int
    seconds: float


class Stage:
    """A stage that is ready to evaluate candidates.

    Parameters
    ----------
    index
        Index of the stage among those of the evaluator.
    seed
        Seed of samples and draws.
    evaluator
        Makes trials. Its NAMM is the start, which brings statistics, spectrogram and interval.
    execution
        Runs trials.

    Raises
    ------
    UsageError
        The task has too few prompts.
    """

    def __init__(
        self, index: int, seed: int, evaluator: Evaluator, execution: Execution[Trial]
    ) -> None:
        self.index, self.seed, self.evaluator, self.execution = index, seed, evaluator, execution
        self.settings = settings = evaluator.stages[index]
        self.adapter, self.namm = evaluator.adapter, evaluator.namm
        tools = evaluator.tools(index)
        self.conditions = tools.conditions
        self.train = prompts.load(
            tools.prompts, tools.task, "train", settings.pool, settings.prompts, seed
        )
        self.validation = prompts.load(
            tools.prompts, tools.task, "validation", settings.validation_prompts, 1, seed
        )
        self.fitness = Fitness(
            settings.fitness, settings.penalty, settings.free_fraction, settings.loss_clip
        )

    def draw(self, generation: int) -> list[Prompt]:
        """Return the prompts of a generation."""
        name = f"{self.seed} {self.settings.name}"
        return self.train.draw(self.settings.prompts, generation, name)

    def evaluate(
        self,
        batch: Sequence[Prompt],
        vectors: Tensor,
        on_done: Callable[[int], None] | None = None,
    ) -> Measured:
        """Run the candidates (candidate, parameter) float32 on all prompts of a batch."""
        trial, index = self.evaluator.trial, self.index
        references = self.execution.run([trial(index, prompt) for prompt in batch])
        results = self.execution.run([trial(index, prompt, vectors) for prompt in batch], on_done)
        outcomes = Outcomes.collect(results, references, [prompt.family for prompt in batch])
        return Measured(
            fitness=self.fitness(outcomes),
            outcomes=outcomes,
            by_task=self.fitness.by_task(outcomes),
            tokens=sum(result["tokens"] for result in results),
            seconds=sum(result["seconds"] for result in results),
        )

    def space(self, origin: Tensor) -> SearchSpace:
        """Return the search space around a parameter vector; fitted steps run the model."""
        namm = replace(self.namm, parameters=origin.float())
        index = indices(namm.layout, self.settings.subspace)
        basis = None
        if self.settings.steps == FITTED:
            basis = fit_steps(namm, index, self._record(namm))
        return SearchSpace(origin.double(), index, basis)

    def _record(self, namm: Namm) -> Recorder:
        """Run `namm` on a few prompts and record its observations in all layers."""
        recorder = Recorder(NammPolicy(namm, budget=self.conditions.selection, state="float32"))
        chosen = [self.train.prompt(sample) for sample in self.train.samples[:FIT_PROMPTS]]
        model, storage = self.adapter.backbone, self.settings.storage
        for prompt in chosen:
            with (
                torch.no_grad(),
                attach(model, recorder, interval=namm.interval, storage=storage),
            ):
                model(**prompt.inputs.tensors, use_cache=True, logits_to_keep=1)
        return recorder

    def strategy(self, size: int) -> Strategy:
        """Return the strategy, at point 0 of a search space of `size` dimensions."""
        start, settings = torch.zeros(size, dtype=torch.float64), self.settings
        sigma, population, seed = settings.sigma, settings.population, self.seed + self.index
        if settings.strategy == "sep_cma":
            return SepCma(start, sigma, population, seed=seed)
        if settings.strategy == "cma_official":
            return CmaEs.official(start, sigma, population, seed=seed)
        return CmaEs(start, sigma, population, seed=seed)
