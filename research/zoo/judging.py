"""Likelihood of answers under evictions: all candidates and several samples in one batch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from namm_mm.errors import RunError, message
from namm_mm.evolution.population import Population
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.policies.base import Policy
from research.zoo.recipes import recipe
from research.zoo.samples import RECALL, Samples, Source
from research.zoo.training import CARD, zoo_folder

CLIP = 4.0  # nats: larger losses are lost answers, and their size is noise
PLAIN_WEIGHT = 0.25
AGAIN = 0.5  # part of the samples in which facts are said twice


@dataclass(frozen=True)
class Conditions:
    """How evictions run.

    Attributes
    ----------
    interval
        Tokens between two of them.
    fraction
        Part of the tokens seen that stays.
    pooled
        The heads of a layer share their size.
    """

    interval: int
    fraction: float
    pooled: bool = False

    @property
    def budget(self) -> str:
        """Words of the budget."""
        return f"{'pool' if self.pooled else 'fraction'}:{self.fraction:g}"

    @property
    def storage(self) -> str:
        """The storage that such a budget needs."""
        return "per_head" if self.pooled else "shared"


@dataclass(frozen=True, eq=False)
class Case:
    """Samples of one model, and what its full cache makes of them.

    Attributes
    ----------
    samples
        Of equal length.
    judged
        (sample, token) bool: the tokens that count: answers, or the end of plain text.
    full
        (sample,) mean log-probability of these tokens with the full cache, in nats.
    """

    model: PreTrainedModel
    samples: Samples
    judged: Tensor
    full: Tensor


@lru_cache(maxsize=16)
def load(name: str) -> PreTrainedModel:
    """Load a trained model of the zoo in float32.

    Raises
    ------
    RunError
        It was not trained yet.
    """
    folder = zoo_folder(name)
    if not folder.is_dir():
        raise RunError(
            message(
                "a model of the zoo is missing",
                given=name,
                expected="a trained model in the cache",
                then=f"namm-mm build zoo models=[{name}]",
            )
        )
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval().requires_grad_(False)
    loaded: PreTrainedModel = model
    return loaded


def card(name: str) -> dict[str, object]:
    """Return the card of a trained model."""
    found: dict[str, object] = json.loads((zoo_folder(name) / CARD).read_text(encoding="utf-8"))
    return found


def case(model: PreTrainedModel, samples: Samples) -> Case:
    """Run the samples with the full cache."""
    judged = samples.answers.clone()
    plain = ~judged.any(1)
    judged[plain, -samples.tokens.shape[1] // 5 :] = True
    with torch.no_grad():
        logits = model(input_ids=samples.tokens[:, :-1], use_cache=False).logits
    return Case(model, samples, judged, _mean(logits, samples.tokens, judged))


def draw(name: str, split: str, seed: int, count: int, length: int) -> Case:
    """Return `count` samples of one model: recall families in turn, every sixth is plain text."""
    source = Source(recipe(name), split, seed, AGAIN)
    families = (*RECALL, "texts")
    rows = [source.draw(1, length, families[(seed + at) % len(families)]) for at in range(count)]
    parts = [
        torch.cat([getattr(row, part) for row in rows]) for part in ("tokens", "answers", "weights")
    ]
    return case(load(name), Samples(*parts))


def _mean(logits: Tensor, tokens: Tensor, judged: Tensor) -> Tensor:
    """(row,): mean log-probability of the judged tokens; logits are of the last tokens but one."""
    count = logits.shape[1]
    wanted, counts = tokens[:, -count:], judged[:, -count:]
    chosen = logits.float().log_softmax(-1).gather(2, wanted[..., None])[..., 0]
    return (chosen * counts).sum(1) / counts.sum(1)


def candidates(judge: Case, namm: Namm, vectors: Tensor, how: Conditions) -> Tensor:
    """Return (candidate, sample): log-probability minus that of the full cache, in nats.

    What comes before the first eviction runs once for all candidates.

    Parameters
    ----------
    vectors
        (candidate, parameter) float32.
    namm
        What the candidates share; its statistics are those of the case's model.
    """
    count, tokens = len(vectors), judge.samples.tokens
    rows = len(tokens)
    population = Population(namm, vectors.repeat(rows, 1), budget=how.budget)
    keep, shared = _last(judge), how.interval - 1
    everyone = tokens.repeat_interleave(count, 0)
    with (
        torch.no_grad(),
        attach(judge.model, population, interval=how.interval, storage=how.storage) as memory,
    ):
        judge.model(input_ids=tokens[:, :shared], use_cache=True, logits_to_keep=1)
        memory.cache.batch_repeat_interleave(count)
        logits = judge.model(
            input_ids=everyone[:, shared:-1],
            attention_mask=tokens.new_ones(rows * count, tokens.shape[1] - 1),
            past_key_values=memory.cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits
    found = _mean(logits, everyone, judge.judged.repeat_interleave(count, 0))
    return (found.view(rows, count) - judge.full[:, None]).T


def under(judge: Case, policy: Policy, how: Conditions) -> Tensor:
    """Return (sample,): log-probability under a policy minus that of the full cache, in nats."""
    tokens = judge.samples.tokens
    with (
        torch.no_grad(),
        attach(judge.model, policy, interval=how.interval, storage=how.storage),
    ):
        logits = judge.model(
            input_ids=tokens[:, :-1], use_cache=True, logits_to_keep=_last(judge)
        ).logits
    return _mean(logits, tokens, judge.judged) - judge.full


def _last(judge: Case) -> int:
    """How many of the last logits are needed."""
    first = int(judge.judged.any(0).nonzero()[0])
    return judge.samples.tokens.shape[1] - first


def fitness(differences: Tensor, judge: Case) -> Tensor:
    """Return (candidate,): the weighted mean over samples of clipped differences."""
    plain = ~judge.samples.answers.any(1)
    weights = torch.where(plain, PLAIN_WEIGHT, 1.0)
    return (differences.clamp_min(-CLIP) * weights).sum(1) / weights.sum()
