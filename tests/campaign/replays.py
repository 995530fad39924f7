"""Random evictions against a dense replay, which shares no code with the memory."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import torch
from replay import replay, visible_after

from namm_mm.memory import attach
from namm_mm.policies import Budget, Policy, Threshold, create
from namm_mm.testing.tiny import TINY, tiny_tokens

from .base import Attempt, Setting

POLICIES = (
    *("h2o", "l2", "recency", "random", "attention_max", "attention_ema", "snapkv", "tova"),
    *("keydiff", "lagkv", "expected_attention", "protected", "namm"),
)
TOLERANCE = 5e-4
"""Between logits of float32, which are about 10."""


def draw_policy(draw: Random) -> tuple[str, Policy]:
    """Return a random policy that evicts, and its name with its budget."""
    name = draw.choice(POLICIES)
    options = {"state": "float32"} if name == "namm" else {}  # the replay holds no codes
    if name == "namm" and draw.random() < 0.3:
        return "namm threshold", create(name, **options)
    if name == "random" and draw.random() < 0.5:
        return "random threshold", create(name, budget=Threshold(), seed=draw.randrange(99))
    tokens = draw.randrange(24, 80)
    return f"{name} {tokens}", create(name, budget=Budget(tokens=tokens), **options)


def run(setting: Setting) -> Iterator[Attempt]:
    """Yield one model, policy, storage, interval and length after another."""
    for number in range(setting.count):
        draw = setting.draw(number)
        kind, seed = draw.choice(sorted(TINY)), draw.randrange(1000)
        label, policy = draw_policy(draw)
        storage = draw.choice(["shared", "per_head"])
        interval, length = draw.choice([16, 32, 48]), draw.randrange(40, 180)
        model, tokens = TINY[kind](seed=seed), tiny_tokens(1, length, seed)
        off = difference(model, tokens, policy, interval=interval, storage=storage)
        what = f"{number}: {kind} seed {seed}, {label}, {storage}, {interval}, {length} tokens"
        yield Attempt(what, f"logits differ by {off:.2g}" if off > TOLERANCE else "")


def difference(model: Any, tokens: torch.Tensor, policy: Policy, **options: Any) -> float:
    """Return the largest difference between the memory's logits and the replay's."""
    visible = visible_after(model, tokens, policy, **options)
    with torch.no_grad():
        with replay(model, visible):
            expected = model(tokens, use_cache=False).logits
        with attach(model, policy, **options):
            got = model(tokens).logits
    return float((got - expected).abs().max())
