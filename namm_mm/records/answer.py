"""What a model said, and what a task made of it: :class:`Answer` and :class:`Score`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Attributes
    ----------
    text
        The generated text, or the chosen option's text.
    option
        Index of the chosen option; None when the answer was generated.
    log_probabilities
        Log-probability of each option in nats, in the order of the sample's options.
    first_token_seconds, token_seconds
        Wall time to the first token, and the mean of each later one (0.0 when there was none).
    tokens
        Number of tokens of the prompt and of the answer together.
    """

    text: str
    option: int | None = None
    log_probabilities: tuple[float, ...] = ()
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    tokens: int = 0


@dataclass(frozen=True)
class Score:
    """A task's judgement of one answer.

    Attributes
    ----------
    value
        The number that tables average; higher is better.
    metric
        Its name: ``accuracy``, ``exact_match``, ``normalized_score``.
    details
        Further numbers or texts worth keeping (JSON values only).
    """

    value: float
    metric: str
    details: Mapping[str, Any] = field(default_factory=dict)
