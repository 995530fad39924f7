"""What a Decision Transformer needs beside its weights: state statistics, scale, window."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namm_mm.adapters.control.statistics import STATE_STATISTICS, published_statistics
from namm_mm.errors import RunError, UsageError, message

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each state dimension."""

CONTROL_FILE = "control.json"
"""File beside the weights of our own models, for what config.json cannot hold."""


@dataclass(frozen=True)
class ControlFacts:
    """What a Decision Transformer needs beside its weights.

    Attributes
    ----------
    state_mean, state_std
        Statistics of the training states, one number per dimension.
    scale
        Rewards per unit of return-to-go.
    window
        Steps that the model was trained on at once.
    """

    state_mean: tuple[float, ...]
    state_std: tuple[float, ...]
    scale: float = 1000.0
    window: int = 20


def find_facts(
    name: str,
    source: Path | str,
    *,
    states: int,
    window: int,
    statistics: Statistics | None = None,
) -> ControlFacts:
    """Return the facts of the model that was found as `source` for `name`.

    Parameters
    ----------
    states
        State dimension of the model.
    window
        Steps that it was trained on at once, where it has no ``control.json``.
    statistics
        Statistics that the user gave; None looks for those of the model.

    Raises
    ------
    UsageError
        No statistics of its states are known, or they have another dimension.
    RunError
        Its ``control.json`` is damaged.
    """
    file = Path(source) / CONTROL_FILE
    if statistics is not None:
        facts = ControlFacts(*statistics, window=window)
    elif file.is_file():
        facts = read_facts(file)
    elif published := published_statistics(name):
        facts = ControlFacts(*published, window=window)
    else:
        raise UsageError(
            message(
                "no statistics of the states are known for this model",
                given=name,
                expected=f"a {CONTROL_FILE} beside the weights, the options state_mean and "
                "state_std, or a published checkpoint "
                f"({', '.join(sorted(STATE_STATISTICS))})",
            )
        )
    if not len(facts.state_mean) == len(facts.state_std) == states:
        raise UsageError(
            message(
                f"the state statistics do not fit {name!r}",
                given=f"{len(facts.state_mean)} means, {len(facts.state_std)} deviations",
                expected=f"{states} of each",
            )
        )
    return facts


def read_facts(path: Path) -> ControlFacts:
    """Return the facts in a ``control.json``; raise `RunError` if it is unreadable or wrong."""
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        facts = ControlFacts(
            state_mean=tuple(map(float, content["state_mean"])),
            state_std=tuple(map(float, content["state_std"])),
            scale=float(content["scale"]),
            window=int(content["window"]),
        )
        numbers = (*facts.state_mean, *facts.state_std, facts.scale)
        if not all(map(math.isfinite, numbers)) or min(*facts.state_std, facts.scale) <= 0:
            raise ValueError("means must be finite, deviations and scale positive")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            message(
                f"{path} is damaged",
                given=f"{type(error).__name__}: {error}",
                expected="state_mean, state_std, scale and window",
            )
        ) from error
    return facts
