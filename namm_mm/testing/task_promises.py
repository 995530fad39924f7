"""Conformance of a task: the same samples every time, and scores that prefer the right answer."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.records import Agent, Answer, Sample, Score
from namm_mm.tasks.base import ActingTask, AnsweringTask, Episode, Task
from namm_mm.testing.promises import ConformanceError, Promises, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from namm_mm.records import TokenType
    from namm_mm.records.agent import Flags, Numbers

LIMIT = 4


class IdleAgent(Agent):
    """Always takes the action of zeros: lets an acting task be checked without a model."""

    def __init__(self, action_dim: int) -> None:
        self.action_dim = action_dim

    def act(self, observations: Numbers, rewards: Numbers, alive: Flags) -> Numbers:
        """See :class:`namm_mm.records.Agent`."""
        return np.zeros((len(observations), self.action_dim), dtype=np.float32)

    @property
    def token_types(self) -> tuple[TokenType, ...]:
        """No tokens."""
        return ()


def check_task(task: Task, *, split: str = "test", limit: int = LIMIT) -> tuple[str, ...]:
    """Try every promise of :mod:`namm_mm.tasks.base`; return them when all hold.

    Parameters
    ----------
    task
        An instance. An acting task is played with an agent that always takes the action of zeros.
    split, limit
        Which samples to look at, and how many.

    Raises
    ------
    ConformanceError
        It has no declared base; or lists every broken promise with what was seen.
    """
    if not isinstance(task, AnsweringTask | ActingTask):
        raise ConformanceError(
            f"the task {type(task).__name__} has no declared base: expected a subclass of "
            "AnsweringTask or ActingTask of namm_mm.tasks.base."
        )
    promises = Promises(f"the task {type(task).__name__}")
    samples: Sequence[Sample] = ()
    with promises.promise("it gives samples"):
        samples = task.samples(split, limit, 0)
        require(samples, f"split {split!r} is empty")
        require(all(isinstance(s, Sample) for s in samples), "a sample is no Sample")
    if promises.broken:
        promises.conclude()
    with promises.promise("it keeps to the limit"):
        require(len(samples) <= limit, f"{len(samples)} samples at limit {limit}")
    with promises.promise("the same arguments give the same samples"):
        again = task.samples(split, limit, 0)
        require(list(again) == list(samples), "a second call differs from the first")
    with promises.promise("ids are unique"):
        ids = [sample.id for sample in samples]
        require(len(set(ids)) == len(ids), f"{ids}")
    with promises.promise("no sample is both for training and for testing"):
        train = {sample.id for sample in task.samples("train", limit, 0)}
        test = {sample.id for sample in task.samples("test", limit, 0)}
        require(not train & test, f"in both: {sorted(train & test)[:3]}")
    with promises.promise("metadata is JSON"):
        for sample in samples:
            json.dumps(dict(sample.metadata))
    with promises.promise("its data has a fingerprint that stays"):
        mark = task.fingerprint()
        require(isinstance(mark, str) and mark, f"it is {mark!r}")
        require(task.fingerprint() == mark, "a second call differs from the first")
    if isinstance(task, ActingTask):
        _check_acting(task, samples, promises)
    else:
        _check_answering(task, samples, promises)
    return promises.conclude()


def _check_answering(task: AnsweringTask, samples: Sequence[Sample], promises: Promises) -> None:
    with promises.promise("the right answer is one of the options"):
        for sample in samples:
            inside = not sample.options or sample.answer in sample.options
            require(inside, f"{sample.answer!r} is not in {sample.options}")
    with promises.promise("the right answer scores above a wrong one"):
        for sample in samples:
            right = _require_score(task.score(sample, _answer(sample, right=True)))
            wrong = _require_score(task.score(sample, _answer(sample, right=False)))
            require(right > wrong, f"sample {sample.id!r}: right {right}, wrong {wrong}")


def _answer(sample: Sample, *, right: bool) -> Answer:
    if not sample.options:
        return Answer(sample.answer if right else "")
    at = sample.options.index(sample.answer)
    chosen = at if right else (at + 1) % len(sample.options)
    logs = tuple(0.0 if option == chosen else -9.0 for option in range(len(sample.options)))
    return Answer(sample.options[chosen], chosen, logs)


def _check_acting(task: ActingTask, samples: Sequence[Sample], promises: Promises) -> None:
    episodes: list[Episode] = []
    with promises.promise("it plays"):
        steps: list[tuple[int, int]] = []
        agent = IdleAgent(task.dimensions()[1])
        played = task.play(samples, agent, on_step=lambda step, alive: steps.append((step, alive)))
        episodes = list(played)
        require(steps, "on_step was never called")
    with promises.promise("every sample is played once, in a row of its own"):
        require(
            sorted(e.sample.id for e in episodes) == sorted(s.id for s in samples),
            f"{len(episodes)} episodes of {len(samples)} samples",
        )
        rows = sorted(episode.row for episode in episodes)
        require(rows == list(range(len(samples))), f"rows are {rows}")
        for episode in episodes:
            require(samples[episode.row].id == episode.sample.id, "rows are not in sample order")
    with promises.promise("scores tell return and length"):
        for episode in episodes:
            _require_score(episode.score)
            details = episode.score.details
            require({"return", "length"} <= set(details), f"details have {sorted(details)}")
            require(details["length"] == len(episode.rewards), "length is not that of the rewards")
    with promises.promise("it asks for a finite return"):
        require(math.isfinite(task.target_return()), f"{task.target_return()}")


def _require_score(score: Any) -> float:
    require(isinstance(score, Score), f"it is a {type(score).__name__}")
    require(math.isfinite(score.value), f"its value is {score.value}")
    require(score.metric, "its metric has no name")
    json.dumps(dict(score.details))
    return float(score.value)
