"""Refine a NAMM by gradients of the frozen model's own answers.

Evolution tries vectors and learns how good they were; a frozen model can also tell in which
direction they would have been better. Each step runs new training prompts, each with another
fraction of the cache, and follows the gradient of the answers
(:mod:`research.gradients.answer_gradients`) at a constant number of kept tokens: more memory would
always give better answers. The gradients of a few prompts are larger than those of all others
together; the gradient of a prompt is therefore clipped.

The objective is either the right answer, or the answer of the full cache, right or wrong. A prompt
that the model cannot answer has a large gradient under the first objective and none under the
second.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.evolution.scoring import digest
from namm_mm.namm.params import LAYOUTS
from research.gradients.answer_gradients import WHOLE, Evaluation, Rule
from research.gradients.refinement_settings import RefinementSettings
from research.gradients.refinement_state import STATE, RefinementState

if TYPE_CHECKING:
    from namm_mm.execution.base import Execution, Result
    from namm_mm.namm import Namm
    from namm_mm.records import Sample
    from namm_mm.tasks.base import AnsweringTask

MAX_SCORES = 24_000  # scores whose quantiles are the thresholds
LARGEST_LOSS = -4.0  # nats at which the loss of a validation prompt is clipped
BETAS = (0.9, 0.98)  # of Adam


class Refinement:
    """A run that continues from its folder.

    Parameters
    ----------
    start
        A BAM.
    execution
        Runs evaluations.
    folder
        Gets the state, which is replaced after every step.
    model
        Name of the model of `execution`: a run does not continue with another one.

    Attributes
    ----------
    state
        The state of the run: steps, the best vector and its value, the value of the start.
    """

    def __init__(
        self,
        start: Namm,
        task: AnsweringTask,
        settings: RefinementSettings,
        execution: Execution[Evaluation],
        folder: Path,
        model: str,
    ) -> None:
        self.task, self.settings, self.execution = task, settings, execution
        self.path = folder / STATE
        self.state = RefinementState.begin(start.parameters)
        self.vector = torch.nn.Parameter(start.parameters.clone())
        self.optimizer = torch.optim.Adam([self.vector], lr=settings.learning_rate, betas=BETAS)
        self._origin = {
            "start": digest(start.parameters),
            "task": task.fingerprint(),
            "model": model,
        }
        self._validation = task.samples("validation", settings.validation_prompts, 0)
        self._models = tuple(dict.fromkeys(settings.models))
        if self.path.is_file():
            self.state = RefinementState.load(self.path, settings, self._origin)
            with torch.no_grad():
                self.vector.copy_(self.state.vector)
            self.optimizer.state[self.vector] = self.state.moments

    def run(
        self, on_step: Callable[[dict[str, Any]], None], minutes: float | None = None
    ) -> Tensor:
        """Take the steps that are missing, as many as `minutes` allow.

        Returns
        -------
        Tensor
            (4172,) float32: the best vector, its final bias moved so that the greatest validation
            fraction of the tokens scores 0 or more.
        """
        settings, begun = self.settings, time.monotonic()
        if not len(self.state.scores):
            on_step({"step": 0, **self._begin()})
        while self.state.step < settings.steps:
            facts = self._descend()
            step = self.state.step
            if step % settings.validate_every == 0 or step == settings.steps:
                facts |= self._validate()
            self._save()
            on_step(facts)
            if minutes is not None and time.monotonic() - begun >= 60.0 * minutes:
                break
        threshold = min(self._thresholds(self.state.best))
        parts = {name: part.clone() for name, part in LAYOUTS["bam"].split(self.state.best).items()}
        parts["score_bias"] -= threshold
        return LAYOUTS["bam"].join(parts)

    def _begin(self) -> dict[str, Any]:
        """Run the validation prompts with the full cache, and validate the start."""
        state = self.state
        whole = [
            Evaluation.make(sample, state.best, WHOLE, model=model)
            for model in self._models
            for sample in self._validation
        ]
        state.full = [result["value"] for result in self.execution.run(whole)]
        state.scores = self._scores_of(state.best, WHOLE)
        if not len(state.scores):
            raise UsageError(
                message(
                    "prompts are too short for an eviction",
                    given="training prompts of no more tokens than the NAMM's interval",
                    expected="prompts with at least one update",
                    then="Ask for more words.",
                )
            )
        facts = self._validate()
        state.start_value = state.best_value
        return facts

    def _descend(self) -> dict[str, Any]:
        """Take one step; return its numbers."""
        settings, state = self.settings, self.state
        random = Random(f"{settings.seed} {state.step}")
        samples = self.task.samples("train", settings.batch_size, self._seed(state.step))
        low, high = settings.fractions
        fractions = [
            low + (high - low) * (at + random.random()) / len(samples) for at in range(len(samples))
        ]
        random.shuffle(fractions)
        middle = state.scores.median()
        temperature = settings.temperature * float((state.scores - middle).abs().median())
        vector = self.vector.detach().clone()
        found = self.execution.run(
            [
                self._evaluation(at, sample, fraction, random, vector, temperature)
                for at, (sample, fraction) in enumerate(zip(samples, fractions, strict=True))
            ]
        )
        gradients = [torch.tensor(result["gradient"]) for result in found]
        clip = settings.gradient_clip
        clipped = [gradient * min(1.0, clip / max(1e-9, gradient.norm())) for gradient in gradients]
        self.vector.grad = torch.stack(clipped).mean(0)
        self.optimizer.param_groups[0]["lr"] = self._learning_rate()
        self.optimizer.step()
        state.average.lerp_(self.vector.detach(), 1.0 / settings.average)
        state.step += 1
        state.scores = torch.cat([state.scores, _scores(found)])[-MAX_SCORES:]
        return {
            "step": state.step,
            "value": _mean(found, "value"),
            "kept": _mean(found, "kept"),
            "fraction": float(np.mean(fractions)),
            "gradient_norm": float(self.vector.grad.norm()),
        }

    def _evaluation(
        self,
        at: int,
        sample: Sample,
        fraction: float,
        random: Random,
        vector: Tensor,
        temperature: float,
    ) -> Evaluation:
        """Return the evaluation of prompt `at` of a step, with a random rule and interval."""
        settings = self.settings
        sized = settings.equal_sizes + settings.probed_sizes
        drawn = random.random() if sized > 0.0 else 1.0
        interval = random.choice(settings.intervals) if settings.intervals else None
        if drawn < sized:
            probed = drawn >= settings.equal_sizes
            rule = Rule(fraction=fraction, probed=probed, temperature=settings.temperature)
        else:
            rule = Rule(_threshold(self.state.scores, fraction), temperature=temperature)
        model = settings.models[(self.state.step + at) % len(settings.models)]
        return Evaluation.make(sample, vector, rule, interval=interval, gradient=True, model=model)

    def _validate(self) -> dict[str, Any]:
        """Validate the average; return its loss against the full cache, by rule."""
        settings, state, vector = self.settings, self.state, self.state.average.clone()
        fractions = settings.validation_fractions
        rules: dict[str, Rule] = {}
        if settings.equal_sizes + settings.probed_sizes < 1.0:
            for fraction, limit in zip(fractions, self._thresholds(vector), strict=True):
                rules[f"at {fraction:g}"] = Rule(limit)
        if settings.equal_sizes > 0.0:
            rules |= {f"equal at {part:g}": Rule(fraction=part) for part in fractions}
        if settings.probed_sizes > 0.0:
            rules |= {f"probed at {part:g}": Rule(fraction=part, probed=True) for part in fractions}
        found = self.execution.run(
            [
                Evaluation.make(sample, vector, rule, model=model)
                for rule in rules.values()
                for model in self._models
                for sample in self._validation
            ]
        )
        losses = [
            max(LARGEST_LOSS, result["value"] - full)
            for result, full in zip(found, state.full * len(rules), strict=True)
        ]
        value = float(np.mean(losses))
        if value > state.best_value:
            state.best, state.best_value, state.best_step = vector, value, state.step
        parts = np.array_split(losses, len(rules))
        by_rule = {rule: float(part.mean()) for rule, part in zip(rules, parts, strict=True)}
        return {"validation": value, "validation_kept": _mean(found, "kept"), **by_rule}

    def _thresholds(self, vector: Tensor) -> list[float]:
        """Return the thresholds of the validation fractions, from the scores of this vector."""
        fractions = self.settings.validation_fractions
        first = self._scores_of(vector, WHOLE)  # scores depend a little on what was evicted
        middle = _threshold(first, sum(fractions) / len(fractions))
        scores = self._scores_of(vector, Rule(middle))
        return [_threshold(scores, fraction) for fraction in fractions]

    def _scores_of(self, vector: Tensor, rule: Rule) -> Tensor:
        """Return the scores on some training prompts, which are always the same."""
        samples = self.task.samples("train", self.settings.batch_size, self._seed(-1))
        models = self.settings.models
        units = [
            Evaluation.make(sample, vector, rule, model=models[at % len(models)])
            for at, sample in enumerate(samples)
        ]
        return _scores(self.execution.run(units))

    def _learning_rate(self) -> float:
        settings, step = self.settings, self.state.step
        rising = min(1.0, (step + 1) / settings.warm_up)
        cooled = 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
        return settings.learning_rate * rising * cooled

    def _seed(self, step: int) -> int:
        return 1_000_000 * (self.settings.seed + 1) + step

    def _save(self) -> None:
        self.state.vector = self.vector.detach().clone()
        self.state.moments = self.optimizer.state[self.vector]
        self.state.save(self.path, self.settings, self._origin)


def _threshold(scores: Tensor, fraction: float) -> float:
    """Return the threshold that `fraction` of the scores reach."""
    return float(scores.quantile(1.0 - fraction))


def _scores(results: Sequence[Result]) -> Tensor:
    scores = torch.cat([torch.tensor(result["scores"]) for result in results])
    return scores[scores.isfinite()]  # the newest tokens have none


def _mean(results: Sequence[Result], name: str) -> float:
    return float(np.mean([result[name] for result in results]))
