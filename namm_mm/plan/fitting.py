"""When a plan does not fit: what would."""

from __future__ import annotations

import math
from collections.abc import Iterator

from namm_mm.models.known import ModelFacts
from namm_mm.plan.devices import DEVICES, GIB, Device
from namm_mm.plan.memory import HEADROOM, RUNTIME, CacheNeed

ROUND = 64  # contexts are said in such steps
_NARROWER = {4: (("bfloat16", 2),), 2: ()}


def largest_context(
    facts: ModelFacts,
    room: float,
    need: CacheNeed,
    context: int,
    number_bytes: int,
    quantization: str | None = None,
) -> int:
    """Longest context in tokens whose need, taken to grow evenly from `need`, fits in `room`."""
    weights = facts.weights(number_bytes, quantization)
    free = room * HEADROOM - RUNTIME - weights
    per_token = need.total / context
    return max(0, int(free / per_token) // ROUND * ROUND)


def advice(
    facts: ModelFacts, device: Device, need: CacheNeed, context: int, number_bytes: int
) -> Iterator[str]:
    """Sentences on what would fit, the least change first."""
    longest = largest_context(facts, device.memory, need, context, number_bytes)
    if longest:
        yield f"at most {longest:,} tokens of context, for {need.policy} ({need.budget})"
    for name, narrow in _NARROWER.get(number_bytes, ()):
        if _fits(facts, device.memory, need, narrow / number_bytes, narrow):
            yield f"adapter.dtype={name}: half of the weights and of the cache"
    if _fits(facts, device.memory, need, 1.0, number_bytes, "4bit"):
        packed = facts.weights(number_bytes, "4bit") / GIB
        yield f"adapter.quantization=4bit: {packed:.1f} GiB of weights"
    else:
        longest = largest_context(facts, device.memory, need, context, number_bytes, "4bit")
        if longest:
            yield f"adapter.quantization=4bit and at most {longest:,} tokens of context"
    total = facts.weights(number_bytes) + need.total
    count = math.ceil(total / (device.memory * HEADROOM - RUNTIME))
    if device.is_gpu:
        yield f"adapter.device_map=auto over {max(2, count)} of {device.name}"
    larger = [
        known
        for known in DEVICES.values()
        if known.memory * HEADROOM >= total + RUNTIME and known.memory > device.memory
    ]
    if larger:
        smallest = min(larger, key=lambda known: known.memory)
        yield f"one {smallest.name} of {smallest.memory / GIB:.0f} GiB"


def _fits(
    facts: ModelFacts,
    room: float,
    need: CacheNeed,
    share: float,
    number_bytes: int,
    quantization: str | None = None,
) -> bool:
    weights = facts.weights(number_bytes, quantization)
    return weights + RUNTIME + need.total * share <= room * HEADROOM
