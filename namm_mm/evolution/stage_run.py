"""One stage at work: its prompts, how candidates are scored on them, and its search space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from namm_mm.evolution import prompts
from namm_mm.evolution.bench import Evaluator, Trial
from namm_mm.evolution.cma_es import CmaEs
from namm_mm.evolution.fitness import Fitness, Outcomes
from namm_mm.evolution.prompts import Prompt
from namm_mm.evolution.search import FITTED, Recorder, SearchSpace, fit, indices, with_vector
from namm_mm.evolution.sep_cma import SepCma
from namm_mm.execution import Execution
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.policies.namm import NammPolicy

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
    index
        Which of the evaluator's stages.
    seed
        Of samples and draws.
    evaluator
        Makes trials; its NAMM is the start, which brings statistics, spectrogram and interval.
    execution
        Does them.

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
        bench = evaluator.bench(index)
        self.conditions = bench.conditions
        self.train = prompts.load(
            bench.prompts, bench.task, "train", settings.pool, settings.prompts, seed
        )
        self.fixed = prompts.load(
            bench.prompts, bench.task, "validation", settings.validation_prompts, 1, seed
        )
        self.rule = Fitness(settings.fitness, settings.price, settings.allowance, settings.floor)

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
        trial, index = self.evaluator.trial, self.index
        references = self.execution.run([trial(index, prompt) for prompt in batch])
        results = self.execution.run([trial(index, prompt, vectors) for prompt in batch], on_done)
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
