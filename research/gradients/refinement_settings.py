"""Settings of a refinement, and their names in states of earlier versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from namm_mm.errors import UsageError, message
from research.gradients.answer_gradients import FULL, OBJECTIVES

RENAMED = {
    "everywhere": "text_weight",
    "batch": "batch_size",
    "rate": "learning_rate",
    "sizes": "fractions",
    "even": "equal_sizes",
    "softness": "temperature",
    "clip": "gradient_clip",
    "check": "validate_every",
    "validation_sizes": "validation_fractions",
}
"""Names of settings in earlier versions, and their names now."""


@dataclass(frozen=True)
class RefinementSettings:
    """How a NAMM is refined.

    Attributes
    ----------
    objective
        ``full``: minus the divergence from the distribution of the full cache; ``answer``: the
        log-probability of the right answer. Both in nats, as means over the tokens of the answer.
    text_weight
        Weight of the divergence from the full cache in the text itself, from the first update on,
        in nats as a mean over tokens; the answer has weight 1. Answers need old tokens, the text
        also needs recent ones.
    steps, batch_size
        Number of steps, and new training prompts of each, families in turn.
    learning_rate, warm_up
        The highest learning rate of Adam, and the steps until it is reached; a cosine then lowers
        it to 0.
    fractions
        Least and greatest fraction of the tokens that a prompt keeps.
    equal_sizes
        Fraction of the prompts that run with the same size in all heads, from which the network
        learns which tokens to keep. The others run with one threshold for all heads, from which it
        also learns where.
    probed_sizes
        Fraction of the prompts whose heads have the sizes that a probe of the model measures
        (:class:`namm_mm.policies.probed.Probed`); with `equal_sizes` at most 1.
    models
        For every prompt of a step, in turn, the index of the model that reads it.
    intervals
        Tokens between two updates, drawn anew for every prompt; none is the NAMM's own interval.
    temperature
        Width of a decision's sigmoid, in units of the median distance of scores from their median.
    gradient_clip
        Greatest norm of the gradient of a prompt.
    validate_every
        Steps between two validations; the best mean is the result.
    validation_prompts, validation_fractions
        The validation prompts, each of which runs with all of these fractions.
    average
        Time constant, in steps, of the running mean of the vectors, which is validated.
    seed
        Seed of prompts and fractions.
    """

    objective: str = FULL
    text_weight: float = 0.0
    steps: int = 120
    batch_size: int = 12
    learning_rate: float = 1e-3
    warm_up: int = 8
    fractions: tuple[float, float] = (0.08, 0.6)
    equal_sizes: float = 0.0
    probed_sizes: float = 0.0
    models: tuple[int, ...] = (0,)
    intervals: tuple[int, ...] = ()
    temperature: float = 0.3
    gradient_clip: float = 2.0
    validate_every: int = 20
    validation_prompts: int = 24
    validation_fractions: tuple[float, ...] = (0.15, 0.35)
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
        counts = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "warm_up": self.warm_up,
            "validate_every": self.validate_every,
            "validation_prompts": self.validation_prompts,
            "average": self.average,
        }
        for name, value in counts.items():
            if value < 1:
                raise UsageError(message(f"wrong {name}", given=value, expected="1 or more"))
        if not self.text_weight >= 0.0:
            raise UsageError(
                message("wrong text_weight", given=self.text_weight, expected="0 or more")
            )
        for name, part in self._parts().items():
            if not 0.0 <= part <= 1.0:
                raise UsageError(
                    message(f"wrong {name}", given=part, expected="a fraction, 0 to 1")
                )
        if not self.learning_rate > 0.0:
            raise UsageError(
                message("wrong learning_rate", given=self.learning_rate, expected="more than 0")
            )

    def _parts(self) -> dict[str, float]:
        both = "sum of equal_sizes and probed_sizes"
        return {
            "equal_sizes": self.equal_sizes,
            "probed_sizes": self.probed_sizes,
            both: self.equal_sizes + self.probed_sizes,
        }

    def changes(self, before: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
        """Return the settings that differ from stored ones: name to (stored, now).

        A stored setting may have its earlier name. A setting that is not stored had its default.
        """
        now = json.loads(json.dumps(asdict(self)))
        default = json.loads(json.dumps(asdict(RefinementSettings())))
        stored = default | {RENAMED.get(name, name): value for name, value in before.items()}
        return {n: (stored[n], value) for n, value in now.items() if stored[n] != value}
