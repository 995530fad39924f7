"""How long a plan may take: rooflines of prefill and decoding, the simulator's speed for control.

An order of magnitude, no promise: a run reports what it measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from namm_mm.observations.base import Observation, QueryObservation

if TYPE_CHECKING:
    from namm_mm.models.known import ModelFacts
    from namm_mm.plan.devices import Device

USED = 0.4  # of a device's operations and bandwidth, in an eager model
LAYER_SECONDS = 0.0006  # to launch one layer's kernels for one token
STEPS_PER_SECOND = {"Hopper": 4000.0, "HalfCheetah": 11000.0, "Walker2d": 4000.0}
"""Environment steps per second of one processor core, measured on a busy machine."""

OBSERVED = {"column_sums": 1.5}
"""Attention work with a second pass over queries and keys; 2 for other observations of weights."""


def answering_seconds(
    facts: ModelFacts,
    device: Device,
    *,
    context: int,
    held: int,
    new_tokens: int,
    needs: Observation | None,
    number_bytes: int,
    weights: float,
) -> float:
    """Seconds of one sample: a prompt of `context` tokens, then `new_tokens`."""
    attention = 2.0 * facts.layers * facts.query_heads * facts.head_dim * context * context
    work = 2.0 * facts.parameters * context + attention * _observed(needs)
    prefill = work / (device.flops * USED)
    read = weights + held * facts.kv_per_token(number_bytes)
    token = max(read / (device.bandwidth * USED), facts.layers * LAYER_SECONDS)
    return prefill + new_tokens * token


def _observed(needs: Observation | None) -> float:
    """Attention work, relative to that without an observation."""
    if needs is None or isinstance(needs, QueryObservation):
        return 1.0
    return OBSERVED.get(needs.name, 2.0)


def acting_seconds(
    facts: ModelFacts, body: str, *, episodes: int, steps: int, cores: int = 1
) -> float:
    """Seconds of `episodes` that run side by side for `steps` each."""
    simulator = episodes / (STEPS_PER_SECOND.get(body, 4000.0) * cores)
    return steps * (simulator + 4 * facts.layers * LAYER_SECONDS)
