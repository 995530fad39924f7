"""From what candidates did to one number each; higher is better.

Answers are compared with those of the full cache on the same prompts, and every task counts alike
however many prompts it has. Nothing rewards a small cache unless a price is set, as published.
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
    """The rule.

    Attributes
    ----------
    kind
        ``likelihood``: log-probability of the right answer minus that with the full cache, in nats
        per token of the answer; 0 is parity. ``ratio``: score divided by the score of the full
        cache, as published; 1 is parity.
    price
        Taken off for keeping the whole prompt beyond `allowance`, in proportion below; 0 is off.
    allowance
        Part of the tokens that may be kept for nothing, as a mean over layers and prompts.
    floor
        Of ``likelihood``: a prompt counts for at most so many nats below the full cache; None has
        no end. What is lost beyond is lost anyway, and its size is chance.
    """

    kind: str = LIKELIHOOD
    price: float = 0.0
    allowance: float = 0.0
    floor: float | None = None

    def __call__(self, generation: Outcomes) -> Tensor:
        """(candidate,) float64."""
        tasks = list(self.by_task(generation).values())
        costs = self.price * (generation.kept - self.allowance).clamp_min(0.0)
        return torch.stack(tasks).mean(0) - costs

    def by_task(self, generation: Outcomes) -> dict[str, Tensor]:
        """Fitness on each task, without the price: (candidate,) float64.

        Raises
        ------
        RunError
            The full cache scores 0 on a task, so that there is no ratio to it.
        """
        found = {}
        for task in dict.fromkeys(generation.tasks):
            mine = torch.tensor([name == task for name in generation.tasks])
            values = generation.values[:, mine].mean(1)
            full = generation.references[mine].mean()
            if self.kind == LIKELIHOOD:
                gaps = generation.values[:, mine] - generation.references[mine]
                if self.floor is not None:
                    gaps = gaps.clamp_min(-self.floor)
                found[task] = gaps.mean(1)
                continue
            if float(full) == 0.0:
                raise RunError(
                    message(
                        f"the full cache scores nothing on {task!r}",
                        given=f"a mean score of 0 on {int(mine.sum())} prompts",
                        expected="a score above 0 to divide by",
                        then="Take more prompts, leave this task out, or fitness=likelihood.",
                    )
                )
            found[task] = values / full
        return found


@dataclass(frozen=True, eq=False)
class Outcomes:
    """All candidates on all prompts of a generation.

    Attributes
    ----------
    values
        (candidate, prompt) float64.
    references
        (prompt,) float64: those of the full cache.
    tasks
        Task of each prompt.
    kept_by_layer
        (candidate, layer) float64: part of the tokens kept, mean over prompts.
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
        """(candidate,) part of the tokens kept, mean over layers and prompts."""
        return self.kept_by_layer.mean(1)
