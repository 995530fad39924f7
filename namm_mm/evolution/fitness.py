"""Fitness: one number for each candidate from what it did to the answers; higher is better.

Answers are compared with those of the full cache on the same prompts. Every task has the same
weight, however many prompts it has. A small cache is rewarded only where a penalty is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from namm_mm.errors import RunError, message
from namm_mm.execution.base import Result

LIKELIHOOD, RATIO = "likelihood", "ratio"
KINDS = (LIKELIHOOD, RATIO)


@dataclass(frozen=True)
class Fitness:
    """How fitness is computed.

    Attributes
    ----------
    kind
        ``likelihood``: log-probability of the right answer minus that with the full cache, in nats
        per token of the answer; 0 is the full cache. ``ratio``: score divided by the score of the
        full cache, as published; 1 is the full cache.
    penalty
        Is subtracted for a candidate that keeps all tokens; a candidate that keeps fewer pays in
        proportion to what it keeps beyond `free_fraction`. 0 is no penalty, as published.
    free_fraction
        Fraction of the tokens that has no penalty, as a mean over layers and prompts.
    loss_clip
        Of ``likelihood``: the loss of a prompt against the full cache is clipped at so many nats;
        None does not clip. Losses beyond are lost answers, and their size is noise.
    """

    kind: str = LIKELIHOOD
    penalty: float = 0.0
    free_fraction: float = 0.0
    loss_clip: float | None = None

    def __call__(self, generation: Outcomes) -> Tensor:
        """Return the fitness: (candidate,) float64."""
        tasks = list(self.by_task(generation).values())
        penalties = self.penalty * (generation.kept - self.free_fraction).clamp_min(0.0)
        return torch.stack(tasks).mean(0) - penalties

    def by_task(self, generation: Outcomes) -> dict[str, Tensor]:
        """Return the fitness on each task, without the penalty: (candidate,) float64.

        Raises
        ------
        RunError
            The full cache scores 0 on a task, so that there is no ratio to it.
        """
        found = {}
        for task in dict.fromkeys(generation.tasks):
            mine = torch.tensor([name == task for name in generation.tasks])
            values, references = generation.values[:, mine], generation.references[mine]
            if self.kind == LIKELIHOOD:
                differences = values - references
                if self.loss_clip is not None:
                    differences = differences.clamp_min(-self.loss_clip)
                found[task] = differences.mean(1)
            else:
                found[task] = values.mean(1) / _full_score(task, references)
        return found


def _full_score(task: str, references: Tensor) -> Tensor:
    full = references.mean()
    if float(full) == 0.0:
        raise RunError(
            message(
                f"the full cache scores nothing on {task!r}",
                given=f"a mean score of 0 on {len(references)} prompts",
                expected="a score above 0 to divide by",
                then="Take more prompts, leave this task out, or set fitness=likelihood.",
            )
        )
    return full


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What all candidates reached on all prompts of a generation.

    Attributes
    ----------
    values
        (candidate, prompt) float64: score or log-probability.
    references
        (prompt,) float64: the same with the full cache.
    tasks
        Task of each prompt.
    kept_by_layer
        (candidate, layer) float64: fraction of the tokens kept, mean over prompts.
    """

    values: Tensor
    references: Tensor
    tasks: tuple[str, ...]
    kept_by_layer: Tensor

    @classmethod
    def collect(
        cls, results: Sequence[Result], references: Sequence[Result], tasks: Sequence[str]
    ) -> Outcomes:
        """Gather the results of one evaluation for each prompt."""
        values = torch.tensor([result["values"] for result in results], dtype=torch.float64).T
        full = torch.tensor([result["values"][0] for result in references], dtype=torch.float64)
        kept = torch.tensor([result["kept"] for result in results], dtype=torch.float64)
        return cls(values, full, tuple(tasks), kept.mean(0))

    @property
    def kept(self) -> Tensor:
        """(candidate,) fraction of the tokens kept, mean over layers and prompts."""
        return self.kept_by_layer.mean(1)
