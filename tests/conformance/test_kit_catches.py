"""The kit is worth nothing unless broken components fail it: each mutant breaks one promise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from namm_mm_melody.adapter import MelodyAdapter
from namm_mm_melody.task import NextNoteTask
from torch import Tensor

from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.errors import UsageError
from namm_mm.policies.base import AnyBudget, LayerView, Policy
from namm_mm.records import Agent, Answer, Inputs, Sample, Score
from namm_mm.testing import ConformanceError, check_adapter, check_policy, check_task

SAMPLES = NextNoteTask().samples("test", 3, seed=0)


def norms(view: LayerView) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(view.keys, dim=-1)
    return found


@dataclass(frozen=True)
class Keys(Policy):
    """A sound policy that mutants are made of."""

    name: ClassVar[str] = "keys"
    budget: AnyBudget = 0.5

    def score(self, view: LayerView) -> Tensor:
        return norms(view)


class LooksAtTheBatch(Keys):
    def score(self, view: LayerView) -> Tensor:
        found = norms(view)
        return found - found.mean(dim=0)


class LooksAtEmptySlots(Keys):
    def score(self, view: LayerView) -> Tensor:
        found = norms(view)
        return found / found.amax(dim=-1, keepdim=True)


class Forgets(Keys):
    def score(self, view: LayerView) -> Tensor:
        return torch.rand(view.positions.shape)


class ScoresInHalf(Keys):
    def score(self, view: LayerView) -> Tensor:
        return norms(view).half()


class ScoresNan(Keys):
    def score(self, view: LayerView) -> Tensor:
        return norms(view).log() * float("nan")


class WritesIntoTheView(Keys):
    def score(self, view: LayerView) -> Tensor:
        view.keys.mul_(2.0)
        return norms(view)


class ScoresPerLayer(Keys):
    def score(self, view: LayerView) -> Tensor:
        return norms(view).mean(dim=1)


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (LooksAtTheBatch, "a row scores alone as it does in a batch"),
        (LooksAtEmptySlots, "what lies in empty slots does not matter"),
        (Forgets, "the same view gives the same scores"),
        (ScoresInHalf, "float32"),
        (ScoresNan, "finite"),
        (WritesIntoTheView, "the view is left as it was"),
        (ScoresPerLayer, r"shape \(3, 24\)"),
    ],
)
def test_a_broken_policy_is_caught(mutant: type[Keys], promise: str) -> None:
    with pytest.raises(ConformanceError, match=promise):
        check_policy(mutant())


def test_a_sound_policy_passes() -> None:
    assert len(check_policy(Keys())) == 14


def test_a_policy_that_subclasses_nothing_is_caught() -> None:
    bare: Any = type("Bare", (), {"name": "bare", "score": Keys.score})()
    with pytest.raises(ConformanceError, match="does not subclass"):
        check_policy(bare)


def test_a_policy_whose_name_is_an_option_is_caught() -> None:
    @dataclass(frozen=True)
    class TakesItsName(Keys):
        name: str = "keys"  # type: ignore[misc]

    with pytest.raises(ConformanceError, match="annotate as ClassVar: name"):
        check_policy(TakesItsName())


class MissesATokenType(MelodyAdapter):
    def prepare(self, sample: Sample) -> Inputs:
        inputs = super().prepare(sample)
        return dataclasses.replace(inputs, token_types=(*inputs.token_types, inputs.token_types[0]))


class Trains(MelodyAdapter):
    def load(self) -> None:
        super().load()
        self._model.train()


class BypassesTheMemory(MelodyAdapter):
    """Answers by something else when a memory is there."""

    def answer(self, inputs: Inputs, memory: Any) -> Answer:
        answer = super().answer(inputs, memory)
        chances = tuple(value - 0.1 * (memory is not None) for value in answer.log_probabilities)
        return dataclasses.replace(answer, log_probabilities=chances)


class RemembersTheLastSample(MelodyAdapter):
    last: float = 0.0

    def answer(self, inputs: Inputs, memory: Any) -> Answer:
        answer = super().answer(inputs, memory)
        chances = tuple(value + self.last for value in answer.log_probabilities)
        self.last = answer.log_probabilities[0]
        return dataclasses.replace(answer, log_probabilities=chances)


class NamesAnotherOption(MelodyAdapter):
    def answer(self, inputs: Inputs, memory: Any) -> Answer:
        return dataclasses.replace(super().answer(inputs, memory), text="H")


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (MissesATokenType, "every token has a type"),
        (Trains, "evaluation mode"),
        (BypassesTheMemory, "a memory that evicts nothing changes no answer"),
        (RemembersTheLastSample, "the same sample gives the same answer again"),
        (NamesAnotherOption, "the option it names is the text it gives"),
    ],
)
def test_a_broken_answering_adapter_is_caught(mutant: type[MelodyAdapter], promise: str) -> None:
    with pytest.raises(ConformanceError, match=promise):
        check_adapter(mutant(), SAMPLES)


def test_a_class_without_a_declared_base_is_caught() -> None:
    bare: Any = type("Bare", (), dict(vars(MelodyAdapter)))()
    with pytest.raises(
        ConformanceError, match=r"Bare has no declared base.*AnsweringAdapter or Act"
    ):
        check_adapter(bare, SAMPLES)
    task: Any = type("BareTask", (), dict(vars(NextNoteTask)))()
    with pytest.raises(ConformanceError, match=r"no declared base.*AnsweringTask or"):
        check_task(task)


def test_an_answering_adapter_needs_samples() -> None:
    with pytest.raises(UsageError, match="got 1 samples, expected two or more"):
        check_adapter(MelodyAdapter(), SAMPLES[:1])


class Agents(DecisionTransformerAdapter):
    """Wraps each agent in a mutant of it."""

    mutant: Any = None

    def agent(self, environments: int, memory: Any, *, target_return: float) -> Any:
        inner = super().agent(environments, memory, target_return=target_return)
        return self.mutant(inner)


@dataclass
class Wrapped(Agent):
    inner: Any

    @property
    def token_types(self) -> Any:
        return self.inner.token_types

    def act(self, observations: Any, rewards: Any, alive: Any) -> Any:
        return self.inner.act(observations, rewards, alive)


class MixesRows(Wrapped):
    def act(self, observations: Any, rewards: Any, alive: Any) -> Any:
        actions = self.inner.act(observations, rewards, alive)
        return (actions + 0.1 * actions.mean(axis=0)).astype(np.float32)


class FeedsTheDead(Wrapped):
    def act(self, observations: Any, rewards: Any, alive: Any) -> Any:
        return self.inner.act(observations, rewards, np.ones_like(alive))


class TakesAnyState(Wrapped):
    def act(self, observations: Any, rewards: Any, alive: Any) -> Any:
        return self.inner.act(observations[:, :11], rewards, alive)


class ActsInDouble(Wrapped):
    def act(self, observations: Any, rewards: Any, alive: Any) -> Any:
        return self.inner.act(observations, rewards, alive).astype(np.float64)


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (MixesRows, "an environment goes alone as it goes in a batch"),
        (FeedsTheDead, "a finished episode's memory stays as it was"),
        (TakesAnyState, "a state of the wrong dimension is refused"),
        (ActsInDouble, "float32"),
    ],
)
def test_a_broken_acting_adapter_is_caught(mutant: type[Wrapped], promise: str, tiny: Path) -> None:
    adapter = Agents(str(tiny / "control"))
    adapter.mutant = mutant
    with pytest.raises(ConformanceError, match=promise):
        check_adapter(adapter)


class DrawsAnew(NextNoteTask):
    def samples(self, split: str, limit: int | None, seed: int) -> Any:
        return super().samples(split, limit, int(torch.randint(100, ())))


class TrainsOnTheTest(NextNoteTask):
    def samples(self, split: str, limit: int | None, seed: int) -> Any:
        return super().samples("test", limit, seed)


class RepeatsIds(NextNoteTask):
    def samples(self, split: str, limit: int | None, seed: int) -> Any:
        return [dataclasses.replace(s, id=split) for s in super().samples(split, limit, seed)]


class IgnoresTheLimit(NextNoteTask):
    def samples(self, split: str, limit: int | None, seed: int) -> Any:
        return super().samples(split, 9, seed)


class LikesEveryAnswer(NextNoteTask):
    def score(self, sample: Sample, answer: Answer) -> Score:
        return Score(1.0, "accuracy")


class KeepsTensors(NextNoteTask):
    def samples(self, split: str, limit: int | None, seed: int) -> Any:
        found = super().samples(split, limit, seed)
        return [dataclasses.replace(s, metadata={"x": {1, 2}}) for s in found]


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (DrawsAnew, "the same arguments give the same samples"),
        (TrainsOnTheTest, "both for training and for testing"),
        (RepeatsIds, "ids are unique"),
        (IgnoresTheLimit, "9 samples at limit 4"),
        (LikesEveryAnswer, "the right answer scores above a wrong one"),
        (KeepsTensors, "metadata is JSON"),
    ],
)
def test_a_broken_task_is_caught(mutant: type[NextNoteTask], promise: str) -> None:
    with pytest.raises(ConformanceError, match=promise):
        check_task(mutant())


def test_all_broken_promises_are_told_at_once() -> None:
    class Twice(LooksAtTheBatch):
        def score(self, view: LayerView) -> Tensor:
            return super().score(view).half()

    with pytest.raises(ConformanceError, match=r"breaks [2-9] of 14 promises"):
        check_policy(Twice())
