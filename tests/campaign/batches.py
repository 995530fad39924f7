"""Random batches with padding: every row gives what it gives alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from namm_mm.memory import attach
from namm_mm.policies import Policy
from namm_mm.testing.tiny import TINY, tiny_tokens

from .base import Attempt, Setting
from .replays import TOLERANCE, draw_policy

NEW = 12
"""Tokens after the prompt, one at a time."""


def run(setting: Setting) -> Iterator[Attempt]:
    """Yield one batch after another; float64, in which scores do not tie by rounding."""
    for number in range(setting.count):
        draw = setting.draw(number)
        kind, seed = draw.choice(sorted(TINY)), draw.randrange(1000)
        label, policy = draw_policy(draw)
        lengths = [draw.randrange(20, 120) for _ in range(draw.randrange(2, 5))]
        options = {
            "interval": draw.choice([16, 32, 48]),
            "storage": draw.choice(["shared", "per_head"]),
            "protocol": draw.choice(["streaming", "streaming", "prune_after_prefill"]),
        }
        model = TINY[kind](seed=seed).double()
        wrong = compare(model, lengths, seed, policy, options)
        yield Attempt(f"{number}: {kind} seed {seed}, {label}, {lengths}, {options}", wrong)


def compare(
    model: Any, lengths: list[int], seed: int, policy: Policy, options: dict[str, Any]
) -> str:
    """Return what the first row that differs differs in; empty if none does."""
    width = max(lengths)
    tokens = tiny_tokens(len(lengths), width + NEW, seed)
    mask = torch.ones_like(tokens)
    for row, length in enumerate(lengths):
        mask[row, : width - length] = 0
    with attach(model, policy, **options) as memory:
        together = play(model, memory.cache, tokens * mask, mask, width)
        kept = [[memory.kept(layer, row) for layer in range(2)] for row in range(len(lengths))]
        usage = [memory.usage(row) for row in range(len(lengths))]
    for row, length in enumerate(lengths):
        alone = tokens[row : row + 1, width - length :]
        with attach(model, policy, **options) as memory:
            single = play(model, memory.cache, alone, torch.ones_like(alone), length)
            for layer in range(2):
                ours = [head.tolist() for head in kept[row][layer]]
                if ours != [head.tolist() for head in memory.kept(layer)]:
                    return f"row {row} keeps other tokens in layer {layer}"
            if usage[row] != memory.usage():
                return f"row {row} has another usage"
        off = float((together[row, -NEW - 1 :] - single[0, -NEW - 1 :]).abs().max())
        if off > TOLERANCE:
            return f"logits of row {row} differ by {off:.2g}"
    return ""


@torch.no_grad()
def play(
    model: Any, cache: Any, tokens: torch.Tensor, mask: torch.Tensor, prompt: int
) -> torch.Tensor:
    """Return the logits of a prompt and of the tokens after it, fed one by one."""
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    out = []
    for start, stop in [(0, prompt), *((at, at + 1) for at in range(prompt, tokens.shape[1]))]:
        found = model(
            tokens[:, start:stop],
            past_key_values=cache,
            attention_mask=mask[:, :stop],
            position_ids=positions[:, start:stop],
        )
        out.append(found.logits)
    return torch.cat(out, 1)
