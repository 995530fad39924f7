"""Optimiser steps of the video models, and the loop around them: report, validate, save."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

B = TypeVar("B")
R = TypeVar("R")


@dataclass(frozen=True)
class Phase:
    """A phase of the training.

    Attributes
    ----------
    steps
        Steps in all.
    seed
        Seed of the batches. A batch depends on it and on the number of the step alone, so that an
        interrupted training continues as if it had not been interrupted.
    peak
        The highest learning rate.
    warm_up
        Steps of the linear warm-up; a cosine follows.
    floor
        The last learning rate, as a fraction of the highest.
    start
        Finished steps.
    """

    steps: int
    seed: int
    peak: float
    warm_up: int
    floor: float
    start: int = 0

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        rise = min(1.0, (step + 1) / self.warm_up)
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.peak * rise * (self.floor + (1 - self.floor) * cosine)


def optimise(
    optimizer: torch.optim.Optimizer,
    phase: Phase,
    make_batch: Callable[[int], B],
    compute: Callable[[B, int], tuple[Tensor, R]],
    *,
    autocast: bool = True,
) -> Iterator[tuple[int, R]]:
    """Take the steps of a phase; yield the number of finished steps and what `compute` returned.

    Parameters
    ----------
    make_batch
        Makes the batch of a step.
    compute
        Returns the loss of a batch, and what is yielded.
    autocast
        Run `compute` under autocast to bfloat16.
    """
    for step in range(phase.start, phase.steps):
        batch = make_batch(step)
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss, found = compute(batch, step)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
        yield step + 1, found


Weights = dict[str, Tensor]
Best = tuple[float, Weights | None]
"""Mean validation accuracy and the weights; ``(-1.0, None)`` before the first validation."""


@dataclass(frozen=True)
class Supervision:
    """What accompanies the steps of a phase.

    Attributes
    ----------
    save_every, validate_every
        Steps between two saved states and reports, and between two validations.
    validate
        Returns the accuracy of the current weights by family.
    weights
        Returns a copy of the current weights.
    save
        Is told the finished steps and the best weights.
    say
        Is told how it goes, a line at a time.
    """

    save_every: int
    validate_every: int
    validate: Callable[[], Mapping[str, float]]
    weights: Callable[[], Weights]
    save: Callable[[int, Best], None]
    say: Callable[[str], None]


def supervise(
    steps: Iterator[tuple[int, Mapping[str, float]]], last: int, best: Best, by: Supervision
) -> Best:
    """Take all `steps`, of which `last` is the last; return the best weights by validation."""
    sums: dict[str, float] = {}
    for step, losses in steps:
        sums = {key: sums.get(key, 0.0) + value / by.save_every for key, value in losses.items()}
        if step % by.save_every and step != last:
            continue
        by.say(f"step {step}/{last}: {in_words(sums)}")
        sums = {}
        if step % by.validate_every == 0 or step == last:
            accuracy = by.validate()
            by.say(f"validation: {in_words(accuracy)}")
            mean = sum(accuracy.values()) / len(accuracy)
            if mean >= best[0]:
                best = mean, by.weights()
        by.save(step, best)
    return best


def in_words(numbers: Mapping[str, float]) -> str:
    """Return name and value of each number."""
    return ", ".join(f"{key} {value:.2f}" for key, value in numbers.items())


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint in one step: a kill at any moment leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent)
    os.close(handle)
    torch.save(dict(state), unfinished)
    os.replace(unfinished, path)
