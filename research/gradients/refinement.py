"""Refine a NAMM by gradients of the frozen model's own answers.

Evolution tries vectors and is told how well they did; a frozen model can also say in which
direction they would have done better. Each step asks new training prompts, each with another part
of the cache, and follows the slope of how well they are answered
(:mod:`research.gradients.slopes`) as far as it does not change how much is held: more
memory would always answer better. Prompts that are always answered, or never, say little, and a few
say more than all others together; so the slope of a prompt is clipped.

What is wanted is either the right answer, or what the full cache says, right or wrong: the
divergence of the memory's answers from it. A prompt that the model cannot answer has much to gain
by the first and nothing by the second.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.evolution.scoring import digest
from namm_mm.evolution.state import read_tensors, write_tensors
from namm_mm.namm.params import LAYOUTS
from research.gradients.slopes import EVERYTHING, FULL, OBJECTIVES, Question

if TYPE_CHECKING:
    from namm_mm.execution.base import Execution, Result
    from namm_mm.namm import Namm
    from namm_mm.records import Sample
    from namm_mm.tasks.base import AnsweringTask

STATE = "state.safetensors"
REMEMBERED = 24_000  # scores, of which thresholds are quantiles
WORST = -4.0  # nats that one validation prompt can lose
MOMENTS = (0.9, 0.98)  # Adam's


@dataclass(frozen=True)
class RefinementSettings:
    """How a NAMM is refined.

    Attributes
    ----------
    objective
        ``full``: minus the divergence from the full cache's distribution; ``answer``: the right
        answer's log-probability. Both in nats, as means over the answer's tokens.
    everywhere
        How much it counts, beside the answer, that the memory says what the full cache says in the
        text itself, from the first update on: nats as a mean over tokens. An answer needs what was
        said long ago; the text needs also what was said just now.
    steps, batch
        Steps in all, and new training prompts of each, families in turn.
    rate, warm_up
        The highest step size of Adam and the steps until it is reached; then it falls to 0, as a
        cosine.
    sizes
        Least and greatest part of the tokens that a prompt is asked with.
    even
        Part of the prompts that are asked with the same size in all heads, which teaches what to
        hold; the others with one threshold for all heads, which teaches also where.
    intervals
        Tokens between two updates, drawn anew for every prompt; none is the NAMM's own.
    softness
        Width of a decision's sigmoid, in parts of the median distance of scores from their median.
    clip
        Greatest norm of the slope of a prompt.
    check
        Steps between two validations; the best mean is the result.
    validation_prompts, validation_sizes
        That never change; each is asked with all sizes.
    average
        Steps that the mean of the vectors, which is what is validated, reaches back.
    seed
        Of prompts and sizes.
    """

    objective: str = FULL
    everywhere: float = 0.0
    steps: int = 120
    batch: int = 12
    rate: float = 1e-3
    warm_up: int = 8
    sizes: tuple[float, float] = (0.08, 0.6)
    even: float = 0.0
    intervals: tuple[int, ...] = ()
    softness: float = 0.3
    clip: float = 2.0
    check: int = 20
    validation_prompts: int = 24
    validation_sizes: tuple[float, ...] = (0.15, 0.35)
    average: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UsageError(
                message(
                    "unknown objective",
                    given=self.objective,
                    expected="an objective",
                    valid=OBJECTIVES,
                )
            )
        for name in ("steps", "batch", "warm_up", "check", "validation_prompts", "average"):
            if getattr(self, name) < 1:
                raise UsageError(
                    message(f"wrong {name}", given=getattr(self, name), expected="1 or more")
                )
        if not self.everywhere >= 0.0:
            raise UsageError(
                message("wrong everywhere", given=self.everywhere, expected="0 or more")
            )
        if not 0.0 <= self.even <= 1.0:
            raise UsageError(message("wrong even", given=self.even, expected="a part, 0 to 1"))
        if not self.rate > 0.0:
            raise UsageError(message("wrong rate", given=self.rate, expected="more than 0"))


class Refinement:
    """A run that goes on from its folder.

    Parameters
    ----------
    start
        A BAM.
    execution
        Asks questions.
    folder
        Gets the state, replaced after every step.
    model
        What `execution` asks, in words: a run does not go on with another one.

    Attributes
    ----------
    step
        Steps done.
    best_step, best_value
        Where the validation was best, and the nats lost there (0 is the full cache).
    start_value
        The same of the start.
    """

    def __init__(
        self,
        start: Namm,
        task: AnsweringTask,
        settings: RefinementSettings,
        execution: Execution[Question],
        folder: Path,
        model: str,
    ) -> None:
        self.task, self.settings, self.execution = task, settings, execution
        self.path = folder / STATE
        self.step, self.best_step, self.best_value = 0, 0, float("-inf")
        self.start_value = self.best_value
        self.vector = torch.nn.Parameter(start.parameters.clone())
        self.average = start.parameters.clone()
        self.best = start.parameters.clone()
        self.optimizer = torch.optim.Adam([self.vector], lr=settings.rate, betas=MOMENTS)
        self.scores = torch.empty(0)
        self.full: list[float] = []
        self._made = self._made_with(start, model)
        self._fixed = task.samples("validation", settings.validation_prompts, 0)
        self._resume()

    def run(
        self, on_step: Callable[[dict[str, Any]], None], minutes: float | None = None
    ) -> Tensor:
        """Take the steps that are missing, as many as `minutes` allow; return the best vector.

        (4172,) float32, its final bias moved so that the greatest validation size is what scores 0
        or more.
        """
        settings, begun = self.settings, time.monotonic()
        if not len(self.scores):
            on_step({"step": 0, **self._begin()})
        while self.step < settings.steps:
            facts = self._descend()
            if self.step % settings.check == 0 or self.step == settings.steps:
                facts |= self._validate()
            self._save()
            on_step(facts)
            if minutes is not None and time.monotonic() - begun >= 60.0 * minutes:
                break
        threshold = min(self._thresholds(self.best))
        parts = {name: part.clone() for name, part in LAYOUTS["bam"].split(self.best).items()}
        parts["score_bias"] -= threshold
        return LAYOUTS["bam"].join(parts)

    def _begin(self) -> dict[str, Any]:
        """Full-cache answers of the validation prompts, scores of the start, and its validation."""
        whole = [Question.make(s, self.best, EVERYTHING) for s in self._fixed]
        found = self.execution.run(whole)
        self.full = [result["value"] for result in found]
        self.scores = self._scores_of(self.best, EVERYTHING)
        if not len(self.scores):
            raise UsageError(
                message(
                    "prompts are too short to forget anything",
                    given="training prompts of no more tokens than the NAMM's interval",
                    expected="prompts with at least one update",
                    then="Ask for more words.",
                )
            )
        facts = self._validate()
        self.start_value = self.best_value
        return facts

    def _descend(self) -> dict[str, Any]:
        settings, random = self.settings, Random(f"{self.settings.seed} {self.step}")
        samples = self.task.samples("train", settings.batch, self._seed(self.step))
        low, high = settings.sizes
        sizes = [
            low + (high - low) * (at + random.random()) / len(samples) for at in range(len(samples))
        ]
        random.shuffle(sizes)
        middle = self.scores.median()
        softness = settings.softness * float((self.scores - middle).abs().median())
        vector = self.vector.detach().clone()
        found = self.execution.run(
            [
                self._question(sample, size, random, vector, softness)
                for sample, size in zip(samples, sizes, strict=True)
            ]
        )
        slopes = [torch.tensor(result["slope"]) for result in found]
        clipped = [slope * min(1.0, settings.clip / max(1e-9, slope.norm())) for slope in slopes]
        self.vector.grad = torch.stack(clipped).mean(0)
        self.optimizer.param_groups[0]["lr"] = self._rate()
        self.optimizer.step()
        self.average.lerp_(self.vector.detach(), 1.0 / settings.average)
        self.step += 1
        self.scores = torch.cat([self.scores, _scores(found)])[-REMEMBERED:]
        return {
            "step": self.step,
            "value": _mean(found, "value"),
            "held": _mean(found, "held"),
            "asked": float(np.mean(sizes)),
            "slope": float(self.vector.grad.norm()),
        }

    def _question(
        self, sample: Sample, size: float, random: Random, vector: Tensor, softness: float
    ) -> Question:
        """One prompt of a step, asked as the dice say."""
        settings = self.settings
        even = settings.even > 0.0 and random.random() < settings.even
        interval = random.choice(settings.intervals) if settings.intervals else None
        threshold = EVERYTHING if even else _threshold(self.scores, size)
        return Question.make(
            sample,
            vector,
            threshold,
            settings.softness if even else softness,
            size=size if even else None,
            interval=interval,
            slopes=True,
        )

    def _validate(self) -> dict[str, Any]:
        """Nats lost by the average on prompts that never change."""
        settings, vector = self.settings, self.average.clone()
        ways: dict[str, dict[str, Any]] = {}
        if settings.even < 1.0:
            for size, limit in zip(
                settings.validation_sizes, self._thresholds(vector), strict=True
            ):
                ways[f"at {size:g}"] = {"threshold": limit}
        if settings.even > 0.0:
            ways |= {f"even at {size:g}": {"size": size} for size in settings.validation_sizes}
        found = self.execution.run(
            [
                Question.make(sample, vector, **way)
                for way in ways.values()
                for sample in self._fixed
            ]
        )
        lost = [
            max(WORST, result["value"] - full)
            for result, full in zip(found, self.full * len(ways), strict=True)
        ]
        value = float(np.mean(lost))
        if value > self.best_value:
            self.best, self.best_value, self.best_step = vector, value, self.step
        parts = np.array_split(lost, len(ways))
        by_size = {way: float(part.mean()) for way, part in zip(ways, parts, strict=True)}
        return {"validation": value, "validation held": _mean(found, "held"), **by_size}

    def _thresholds(self, vector: Tensor) -> list[float]:
        """Those of the validation sizes, by scores of its own: an average has no other's scale."""
        middle = sum(self.settings.validation_sizes) / len(self.settings.validation_sizes)
        first = self._scores_of(vector, EVERYTHING)  # which depend a little on what is gone
        scores = self._scores_of(vector, _threshold(first, middle))
        return [_threshold(scores, size) for size in self.settings.validation_sizes]

    def _scores_of(self, vector: Tensor, threshold: float) -> Tensor:
        """Scores of some training prompts, always the same."""
        samples = self.task.samples("train", self.settings.batch, self._seed(-1))
        return _scores(self.execution.run([Question.make(s, vector, threshold) for s in samples]))

    def _rate(self) -> float:
        settings = self.settings
        rising = min(1.0, (self.step + 1) / settings.warm_up)
        cooled = 0.5 * (1.0 + math.cos(math.pi * self.step / settings.steps))
        return settings.rate * rising * cooled

    def _seed(self, step: int) -> int:
        return 1_000_000 * (self.settings.seed + 1) + step

    def _save(self) -> None:
        moments = self.optimizer.state[self.vector]
        tensors = {
            "vector": self.vector,
            "average": self.average,
            "best": self.best,
            "scores": self.scores,
            "full": torch.tensor(self.full, dtype=torch.float64),
            "first": moments["exp_avg"],
            "second": moments["exp_avg_sq"],
        }
        position = {
            "step": self.step,
            "best_step": self.best_step,
            "best_value": self.best_value,
            "start_value": self.start_value,
            "made_with": self._made,
        }
        write_tensors(self.path, tensors, position)

    def _resume(self) -> None:
        """Go on from the state of the folder, if there is one.

        Raises
        ------
        UsageError
            It is of other settings or another start.
        """
        if not self.path.is_file():
            return
        tensors, position = read_tensors(self.path)
        now = json.loads(json.dumps(self._made))
        newer = json.loads(json.dumps(asdict(RefinementSettings())))  # than the state may be
        before = newer | position["made_with"]
        changed = {key for key in now if before.get(key) != now[key]}
        if changed:
            raise UsageError(
                message(
                    f"{self.path.parent} has a run with other settings",
                    given=", ".join(f"{key}={now[key]}" for key in sorted(changed)),
                    expected=", ".join(f"{key}={before.get(key)}" for key in sorted(changed)),
                    then="Repeat them to go on, or take another folder with out=FOLDER.",
                )
            )
        self.step = position["step"]
        self.best_step, self.best_value = position["best_step"], position["best_value"]
        self.start_value = position["start_value"]
        with torch.no_grad():
            self.vector.copy_(tensors["vector"])
        self.average, self.best = tensors["average"], tensors["best"]
        self.scores, self.full = tensors["scores"], tensors["full"].tolist()
        self.optimizer.state[self.vector] = {
            "step": torch.tensor(float(self.step)),
            "exp_avg": tensors["first"],
            "exp_avg_sq": tensors["second"],
        }

    def _made_with(self, start: Namm, model: str) -> dict[str, Any]:
        return {
            **asdict(self.settings),
            "start": digest(start.parameters),
            "task": self.task.fingerprint(),
            "model": model,
        }


def _threshold(scores: Tensor, size: float) -> float:
    """What the part `size` of the scores reaches."""
    return float(scores.quantile(1.0 - size))


def _scores(results: Sequence[Result]) -> Tensor:
    scores = torch.cat([torch.tensor(result["scores"]) for result in results])
    return scores[scores.isfinite()]  # the newest tokens have none


def _mean(results: Sequence[Result], name: str) -> float:
    return float(np.mean([result[name] for result in results]))
