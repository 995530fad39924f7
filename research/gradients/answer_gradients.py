"""Run a frozen model with part of its cache, and the gradient of its answer.

One evaluation is a prompt under one vector. Its gradient tells how all 4,172 parameters would have
to change for a better answer while as many tokens are kept: a threshold that moves with them is
part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from namm_mm.evolution.evaluator import make_adapter
from namm_mm.evolution.prompts import Tokenized
from namm_mm.memory.attach import attach
from namm_mm.memory.probing import needs_of
from namm_mm.namm.params import LAYOUTS
from namm_mm.policies.head_need import HeadNeed, Probe
from namm_mm.policies.probed import Probed
from research.gradients.gated_attention import gated
from research.gradients.straight_through import StraightThrough

if TYPE_CHECKING:
    from namm_mm.execution.base import Result
    from namm_mm.namm import Namm
    from namm_mm.records import Sample
    from namm_mm.registry.reader import Choice

FULL_CACHE = float("-inf")  # the threshold of the full cache
ANSWER, FULL = "answer", "full"
OBJECTIVES = (FULL, ANSWER)
SCORES = 2000  # scores of a prompt in a result
STRIDE = 4  # tokens between two places of the text at which its continuation counts


@dataclass(frozen=True)
class Rule:
    """Which tokens of a prompt stay.

    Attributes
    ----------
    threshold, fraction, temperature
        See :class:`~research.gradients.straight_through.StraightThrough`; a threshold of minus
        infinity is the full cache.
    probed
        Whether heads have the sizes that a probe of the model measures; `fraction` is their mean.
    """

    threshold: float = FULL_CACHE
    fraction: float | None = None
    probed: bool = False
    temperature: float = 1.0


WHOLE = Rule()
"""The full cache."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One prompt under one vector.

    Attributes
    ----------
    key
        Hash of the other fields.
    vector
        (4172,) float32.
    rule
        Which tokens stay.
    interval
        Tokens between two updates; None takes that of the NAMM.
    gradient
        Whether the gradient is wanted too.
    model
        Index of the model.
    """

    key: str
    sample: Sample
    vector: Tensor
    rule: Rule = WHOLE
    interval: int | None = None
    gradient: bool = False
    model: int = 0

    @classmethod
    def make(
        cls,
        sample: Sample,
        vector: Tensor,
        rule: Rule = WHOLE,
        *,
        interval: int | None = None,
        gradient: bool = False,
        model: int = 0,
    ) -> Evaluation:
        """Return an evaluation with its key."""
        said = hashlib.sha256(sample.context.encode()).hexdigest()
        content = [sample.id, said, vector.numpy().tobytes(), rule, interval, gradient, model]
        key = hashlib.sha256(repr(content).encode()).hexdigest()
        return cls(key, sample, vector, rule, interval, gradient, model)


class Evaluator:
    """Runs evaluations with one frozen model.

    Parameters
    ----------
    prompts
        Makes prompts with a loaded adapter.
    namm
        Statistics, spectrogram and interval.
    objective, text_weight
        See :class:`~research.gradients.refinement_settings.RefinementSettings`.
    """

    def __init__(
        self, prompts: Tokenized, namm: Namm, objective: str = FULL, text_weight: float = 0.0
    ) -> None:
        self.prompts, self.namm = prompts, namm
        self.objective, self.text_weight = objective, text_weight
        self.model: Any = prompts.adapter.backbone
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self._need: HeadNeed | None = None

    @property
    def need(self) -> HeadNeed:
        """What a probe measures in the heads of the model; it is probed once."""
        if self._need is None:
            config = self.model.config.get_text_config(decoder=True)
            policy = Probed(over="recency")
            probe = Probe(policy.tokens, policy.between, policy.rows, policy.seed)
            needs = needs_of(self.model, config, probe, attach)
            self._need = HeadNeed(needs, policy.floor)
        return self._need

    def __call__(self, evaluation: Evaluation) -> Result:
        """Run an evaluation.

        Returns
        -------
        Result
            ``value``: the quality of the answer in nats. ``kept``: the fraction of the tokens that
            was kept. ``scores`` (n,): some of the lowest scores of tokens. ``gradient`` (4172,):
            that of minus ``value`` with a constant number of kept tokens; None unless wanted.
        """
        prompt, namm, rule = self.prompts.prompt(evaluation.sample), self.namm, evaluation.rule
        asked = prompt.inputs.tensors["input_ids"]
        vector = evaluation.vector.to(asked.device, copy=True).requires_grad_(evaluation.gradient)
        attention = StraightThrough(
            namm,
            vector,
            evaluation.interval or namm.interval,
            threshold=rule.threshold,
            fraction=rule.fraction,
            need=self.need if rule.probed else None,
            temperature=rule.temperature,
        )
        answer = torch.tensor([prompt.answer], device=asked.device)
        tokens = torch.cat([asked, answer[:, :-1]], dim=1)
        places, weights = self._places(tokens, answer, attention.interval)
        target = self._target(tokens, answer, places)
        with torch.set_grad_enabled(evaluation.gradient), gated(self.model, attention):
            found = self._log_probabilities(tokens, places)
            value = ((target * found).sum(-1) * weights).sum()
        if not attention.gates:  # shorter than an interval: nothing was decided
            nothing = torch.empty(0)
            zero = torch.zeros(len(vector)) if evaluation.gradient else None
            return _result(value, torch.ones(1), nothing, zero)
        kept = torch.cat([gate.flatten() for gate in attention.gates])
        scores = torch.cat([score.flatten() for score in attention.scores])
        gradient = None
        if evaluation.gradient and rule.fraction is not None:  # a constant number is kept
            (gradient,) = torch.autograd.grad(-value, vector)
        elif evaluation.gradient:
            gradient = _gradient_at_constant_size(-value, kept.sum(), vector)
        return _result(value, kept, scores[:: max(1, len(scores) // SCORES)], gradient)

    def _places(self, tokens: Tensor, answer: Tensor, interval: int) -> tuple[Tensor, Tensor]:
        """Return the places whose continuation counts, the answer last, and their weights."""
        first = tokens.shape[1] - answer.shape[1]
        places = torch.arange(first, tokens.shape[1], device=tokens.device)
        weights = torch.full((len(places),), 1.0 / len(places), device=tokens.device)
        if self.text_weight > 0.0 and first > interval:
            before = torch.arange(interval, first, STRIDE, device=tokens.device)
            places = torch.cat([before, places])
            lighter = weights.new_full((len(before),), self.text_weight / len(before))
            weights = torch.cat([lighter, weights])
        return places, weights

    def _target(self, tokens: Tensor, answer: Tensor, places: Tensor) -> Tensor:
        """Return the target distributions (place, vocabulary)."""
        if self.objective == ANSWER and len(places) == answer.shape[1]:
            return one_hot(answer[0], self.model.config.vocab_size).float()
        with torch.no_grad():
            target = self._log_probabilities(tokens, places).exp()
        if self.objective == ANSWER:
            target[-answer.shape[1] :] = one_hot(answer[0], target.shape[-1]).float()
        return target

    def _log_probabilities(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Return the log-probabilities (place, vocabulary) of the next token."""
        logits: Tensor = self.model(input_ids=tokens, use_cache=False, logits_to_keep=places).logits
        return logits[0].float().log_softmax(-1)


def _result(value: Tensor, kept: Tensor, scores: Tensor, gradient: Tensor | None) -> Result:
    return {
        "value": float(value.detach()),
        "kept": float(kept.detach().mean()),
        "scores": scores.cpu().numpy(),
        "gradient": None if gradient is None else gradient.cpu().numpy(),
    }


def _gradient_at_constant_size(loss: Tensor, size: Tensor, vector: Tensor) -> Tensor:
    """Return the gradient of `loss`, where a shift of the threshold keeps `size` constant."""
    (gradient,) = torch.autograd.grad(loss, vector, retain_graph=True)
    (of_size,) = torch.autograd.grad(size, vector)
    by_bias = LAYOUTS["bam"].split(gradient)["score_bias"]
    size_by_bias = LAYOUTS["bam"].split(of_size)["score_bias"].clamp_min(1e-6)
    return gradient - of_size * (by_bias / size_by_bias)


class Evaluators:
    """Runs every evaluation with the model that it names.

    Parameters
    ----------
    evaluators
        One for each model.
    """

    def __init__(self, evaluators: Sequence[Evaluator]) -> None:
        self.evaluators = tuple(evaluators)

    def __call__(self, evaluation: Evaluation) -> Result:
        """Run an evaluation; see :class:`Evaluator`."""
        return self.evaluators[evaluation.model](evaluation)


def make_evaluators(
    choices: Sequence[Choice], namm: Namm, objective: str, text_weight: float
) -> Evaluators:
    """Load the models and return their evaluators: the factory of a worker."""
    return Evaluators([_make(choice, namm, objective, text_weight) for choice in choices])


def _make(choice: Choice, namm: Namm, objective: str, text_weight: float) -> Evaluator:
    adapter = make_adapter(choice)
    adapter.load()
    return Evaluator(Tokenized(adapter), namm, objective, text_weight)
