"""How long a plan may take: rooflines of prefill and decoding, the simulator's speed for control.

An order of magnitude, no promise: a run reports what it measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from namm_mm.experiment.settings import CellSettings
from namm_mm.models.known import ModelFacts
from namm_mm.observations.base import Observation, QueryObservation
from namm_mm.plan.configuration import TOKENS_PER_STEP
from namm_mm.plan.devices import Device
from namm_mm.plan.memory import CacheNeed
from namm_mm.plan.workload import Workload
from namm_mm.policies import create

LOAD_BYTES_PER_SECOND = 1.5e9
CACHE_BYTES = 2  # of a number, where it is read for the next token
USED = 0.4  # of a device's operations and bandwidth, in an eager model
LAYER_SECONDS = 0.0006  # to launch one layer's kernels for one token
STEPS_PER_SECOND = {"Hopper": 4000.0, "HalfCheetah": 11000.0, "Walker2d": 4000.0}
"""Environment steps per second of one processor core, measured on a busy machine."""

OBSERVED = {"column_sums": 1.5}
"""Attention work with a second pass over queries and keys; 2 for other observations of weights."""


def cell_seconds(
    cell: CellSettings,
    facts: ModelFacts,
    device: Device,
    load: Workload,
    needs: Sequence[CacheNeed],
    weights: float,
) -> float | None:
    """Seconds of all policies and samples of a cell for one seed; None where samples are unknown.

    Parameters
    ----------
    needs
        What each policy of the cell needs, in order.
    weights
        Bytes of the weights in memory.
    """
    if load.samples is None:
        return None
    total = weights / LOAD_BYTES_PER_SECOND
    for settings, need in zip(cell.policies, needs, strict=True):
        if load.acting:
            steps = load.context // TOKENS_PER_STEP
            total += acting_seconds(facts, load.environment, episodes=load.samples, steps=steps)
            continue
        observed = create(settings.name, **settings.options).needs
        one = prefill_seconds(facts, device, load.context, observed)
        read = weights + need.tokens * facts.kv_per_token(CACHE_BYTES)
        one += load.new_tokens * token_seconds(facts, device, read)
        total += one * load.samples
    return total


def prefill_seconds(
    facts: ModelFacts, device: Device, context: int, needs: Observation | None
) -> float:
    """Seconds of a prompt of `context` tokens, its attention observed as a policy `needs` it."""
    attention = 2.0 * facts.layers * facts.query_heads * facts.head_dim * context * context
    work = 2.0 * facts.parameters * context + attention * _observed(needs)
    return work / (device.flops * USED)


def token_seconds(facts: ModelFacts, device: Device, read: float) -> float:
    """Seconds to generate one token, for which `read` bytes of weights and cache are read."""
    return max(read / (device.bandwidth * USED), facts.layers * LAYER_SECONDS)


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
