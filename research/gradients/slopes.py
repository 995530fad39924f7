"""Ask a frozen model with part of its cache, and how its answer would be another one.

One question is a prompt under one vector. Its slope says how all 4,172 parameters would have to
change for a better answer, with as many tokens held: a threshold that moves with them is part of
it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from namm_mm.namm.params import LAYOUTS
from research.gradients.gated_attention import gated
from research.gradients.straight_through import StraightThrough

if TYPE_CHECKING:
    from namm_mm.evolution.prompts import Tokenized
    from namm_mm.execution.base import Result
    from namm_mm.namm import Namm
    from namm_mm.records import Sample

EVERYTHING = float("-inf")  # the threshold of the full cache
ANSWER, FULL = "answer", "full"
OBJECTIVES = (FULL, ANSWER)
SCORES = 2000  # of a prompt's scores are told
STRIDE = 4  # tokens between two places of a text at which it is asked what comes next


@dataclass(frozen=True, eq=False)
class Question:
    """One prompt for one vector.

    Attributes
    ----------
    key
        Hash of the rest.
    vector
        (4172,) float32.
    threshold, size, softness
        See :class:`~research.gradients.straight_through.StraightThrough`; a threshold of minus
        infinity is the full cache.
    interval
        Tokens between two updates; None is the NAMM's own.
    slopes
        Whether they are wanted, too.
    """

    key: str
    sample: Sample
    vector: Tensor
    threshold: float
    softness: float = 1.0
    size: float | None = None
    interval: int | None = None
    slopes: bool = False

    @classmethod
    def make(
        cls,
        sample: Sample,
        vector: Tensor,
        threshold: float = EVERYTHING,
        softness: float = 1.0,
        *,
        size: float | None = None,
        interval: int | None = None,
        slopes: bool = False,
    ) -> Question:
        """Make it with its key."""
        said = hashlib.sha256(sample.context.encode()).hexdigest()
        rule = [threshold, softness, size, interval, slopes]
        content = [sample.id, said, vector.numpy().tobytes(), *rule]
        key = hashlib.sha256(repr(content).encode()).hexdigest()
        return cls(key, sample, vector, threshold, softness, size, interval, slopes)


class Answers:
    """Asks questions of one frozen model.

    Parameters
    ----------
    prompts
        Of its adapter, which is loaded.
    namm
        Statistics, spectrogram and interval.
    objective, everywhere
        See :class:`~research.gradients.refinement.RefinementSettings`.
    """

    def __init__(
        self, prompts: Tokenized, namm: Namm, objective: str = FULL, everywhere: float = 0.0
    ) -> None:
        self.prompts, self.namm = prompts, namm
        self.objective, self.everywhere = objective, everywhere
        self.model: Any = prompts.adapter.backbone
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def __call__(self, question: Question) -> Result:
        """Return ``value``, how well it was answered in nats, and the part that was ``held``.

        ``scores`` (n,) are some of the lowest scores of tokens; ``slope`` (4172,) is that of minus
        ``value`` with what is held unchanged, None where it was not wanted.
        """
        prompt, namm = self.prompts.prompt(question.sample), self.namm
        asked = prompt.inputs.tensors["input_ids"]
        vector = question.vector.to(asked.device, copy=True).requires_grad_(question.slopes)
        forgetting = StraightThrough(
            namm,
            vector,
            question.interval or namm.interval,
            threshold=question.threshold,
            size=question.size,
            softness=question.softness,
        )
        answer = torch.tensor([prompt.answer], device=asked.device)
        tokens = torch.cat([asked, answer[:, :-1]], dim=1)
        places, weights = self._places(tokens, answer, forgetting.interval)
        wanted = self._wanted(tokens, answer, places)
        with torch.set_grad_enabled(question.slopes), gated(self.model, forgetting):
            found = self._said(tokens, places)
            value = ((wanted * found).sum(-1) * weights).sum()
        if not forgetting.gates:  # shorter than an interval: nothing was decided
            nothing, flat = torch.empty(0), torch.zeros(len(vector)) if question.slopes else None
            return _found(value, torch.ones(1), nothing, flat)
        held = torch.cat([gate.flatten() for gate in forgetting.gates])
        scores = torch.cat([score.flatten() for score in forgetting.scores])
        slope = None
        if question.slopes and question.size is not None:  # which holds as much in any case
            (slope,) = torch.autograd.grad(-value, vector)
        elif question.slopes:
            slope = _slope(-value, held.sum(), vector)
        return _found(value, held, scores[:: max(1, len(scores) // SCORES)], slope)

    def _places(self, tokens: Tensor, answer: Tensor, interval: int) -> tuple[Tensor, Tensor]:
        """Where it is asked what comes next, the answer at the end, and how much it counts."""
        first = tokens.shape[1] - answer.shape[1]
        places = torch.arange(first, tokens.shape[1], device=tokens.device)
        weights = torch.full((len(places),), 1.0 / len(places), device=tokens.device)
        if self.everywhere > 0.0 and first > interval:
            before = torch.arange(interval, first, STRIDE, device=tokens.device)
            places = torch.cat([before, places])
            lighter = weights.new_full((len(before),), self.everywhere / len(before))
            weights = torch.cat([lighter, weights])
        return places, weights

    def _wanted(self, tokens: Tensor, answer: Tensor, places: Tensor) -> Tensor:
        """(place, vocabulary): the distributions that are to be said."""
        if self.objective == ANSWER and len(places) == answer.shape[1]:
            return one_hot(answer[0], self.model.config.vocab_size).float()
        with torch.no_grad():
            wanted = self._said(tokens, places).exp()
        if self.objective == ANSWER:
            wanted[-answer.shape[1] :] = one_hot(answer[0], wanted.shape[-1]).float()
        return wanted

    def _said(self, tokens: Tensor, places: Tensor) -> Tensor:
        """(place, vocabulary) log-probabilities of what comes next."""
        logits: Tensor = self.model(input_ids=tokens, use_cache=False, logits_to_keep=places).logits
        return logits[0].float().log_softmax(-1)


def _found(value: Tensor, held: Tensor, scores: Tensor, slope: Tensor | None) -> Result:
    """What a worker sends back."""
    return {
        "value": float(value.detach()),
        "held": float(held.detach().mean()),
        "scores": scores.cpu().numpy(),
        "slope": None if slope is None else slope.cpu().numpy(),
    }


def _slope(loss: Tensor, held: Tensor, vector: Tensor) -> Tensor:
    """Slope of `loss`, where a shift of the threshold keeps `held` as it is."""
    (slope,) = torch.autograd.grad(loss, vector, retain_graph=True)
    (size,) = torch.autograd.grad(held, vector)
    of_bias = LAYOUTS["bam"].split(slope)["score_bias"]
    size_of_bias = LAYOUTS["bam"].split(size)["score_bias"].clamp_min(1e-6)
    return slope - size * (of_bias / size_of_bias)


def make_answers(choice: Any, namm: Namm, objective: str, everywhere: float) -> Answers:
    """Load a model: what a worker does before its first question."""
    from namm_mm.evolution.evaluator import make_adapter
    from namm_mm.evolution.prompts import Tokenized

    adapter = make_adapter(choice)
    adapter.load()
    return Answers(Tokenized(adapter), namm, objective, everywhere)
