"""How much of what eviction costs LESS gives back: perplexity on held-out prose.

    python research/benchmarks/less.py --sequences 24

For each policy and budget: log-loss of the tokens after the first eviction, of the full cache, of
the policy, of the policy with LESS, and of the policy with the bytes of LESS's state in extra
tokens. The part of the gap that is closed has a 95 % interval, bootstrapped over sequences.
``--under NAME`` uses the kernels under other policies than the one that they were trained for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.memory import attach
from namm_mm.policies import Policy, create
from namm_mm.residuals.less import LessKernels, load_kernels
from namm_mm.runs.provenance import processor
from research.benchmarks.common import options
from research.residuals.recording import cut_prose

RESAMPLES = 10_000


@dataclass(frozen=True)
class Losses:
    """Log-loss of each sequence, nats a token, and processor seconds of all."""

    nats: np.ndarray
    seconds: float


def main() -> None:
    """Measure and print the table."""
    parser = options(
        __doc__,
        model="smollm2-135m-instruct",
        kernels="smollm2",
        policies=("h2o", "recency"),
        budgets=(0.05, 0.1, 0.25),
        sequences=24,
        tokens=512,
        interval=128,
        split="test",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    adapter = TextAdapter(model=args.model)
    adapter.load()
    model, kernels = adapter.backbone, load_kernels(args.kernels)
    given = list(cut_prose(adapter.tokenizer, args.split, args.sequences, args.tokens))
    dtype = next(model.parameters()).dtype
    trained = f"{kernels.card.get('policy')} at {kernels.card.get('budget')}"
    print(f"{args.model}, {dtype}, {processor()}; kernels {args.kernels}, trained for {trained}.")
    print(f"{len(given)} sequences of {args.tokens} tokens, {args.split} split.\n")
    full = losses(model, given, None, args.interval)
    print(f"Full cache: {full.nats.mean():.3f} nats a token.\n")
    print("| policy | budget | gap | closed by LESS | closed by its bytes in tokens | more time |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in args.policies:
        for budget in args.budgets:
            print(row(model, given, full, kernels, name, float(budget), args.interval), flush=True)


def row(
    model: Any, given: list[Tensor], full: Losses, kernels: LessKernels, name: str,
    budget: float, interval: int,
) -> str:  # fmt: skip
    """Return a line of the table."""
    size = next(model.parameters()).element_size()
    heads = kernels.shape[2]
    state = kernels.features * (heads + 1) * 4  # bytes of a kv head, float32
    more = state / (2 * heads * size + 4) / given[0].shape[1]
    below = create(name, budget=budget)
    base = losses(model, given, below, interval)
    less = losses(model, given, create("less", over=below, kernels=kernels, anyway=True), interval)
    larger = losses(model, given, create(name, budget=min(1.0, budget + more)), interval)
    gap = base.nats - full.nats
    return (
        f"| {name} | {budget:.0%} | {gap.mean():.3f} | {closed(gap, base.nats - less.nats)} |"
        f" {closed(gap, base.nats - larger.nats)} | {less.seconds / base.seconds - 1:+.0%} |"
    )


def losses(model: Any, given: list[Tensor], policy: Policy | None, interval: int) -> Losses:
    """Run the sequences; the loss is of the tokens after the first eviction."""
    found, start = [], time.process_time()
    with torch.no_grad():
        for tokens in given:
            if policy is None:
                logits = model(tokens).logits
            else:
                with attach(model, policy, interval=interval):
                    logits = model(tokens).logits
            right = tokens[0, interval + 1 :, None]
            logs = logits[0, interval:-1].float().log_softmax(-1).gather(-1, right)
            found.append(-float(logs.mean()))
    return Losses(np.array(found), time.process_time() - start)


def closed(gap: np.ndarray, won: np.ndarray) -> str:
    """Return the part of the gap that is closed, with its interval."""
    places = np.random.default_rng(0).integers(0, len(gap), (RESAMPLES, len(gap)))
    drawn = won[places].mean(1) / gap[places].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{won.mean() / gap.mean():.0%} [{low:.0%}, {high:.0%}]"


if __name__ == "__main__":
    main()
