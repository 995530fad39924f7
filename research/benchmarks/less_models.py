"""LESS beyond text: answers about videos, and returns of a Decision Transformer.

    python research/benchmarks/less_models.py video pocket_video --limit 210
    python research/benchmarks/less_models.py control pocket_rl_hopper_orders --limit 32

For each budget, on test samples: the policy, the policy with LESS, and the policy with the bytes of
LESS's state in extra tokens (``match_bytes``), with paired differences to the policy alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from namm_mm.experiment import run
from namm_mm.experiment.reading import from_mapping
from namm_mm.records import Record
from namm_mm.results import words
from namm_mm.results.cells import sample_values
from namm_mm.results.statistics import mean_interval, paired_difference
from namm_mm.runs.provenance import processor
from research.benchmarks.common import markdown, options

CELLS: dict[str, dict[str, Any]] = {
    "video": {
        "adapter": {"name": "llava_video", "model": "pocket_video"},
        "task": {"name": "video_qa"},
        "interval": 64,
    },
    "control": {
        "adapter": {"name": "decision_transformer", "model": "pocket_rl_hopper_orders"},
        "task": {"name": "offline_rl", "orders": True},
        "interval": 48,
    },
}


def main() -> None:
    """Measure and print the table."""
    parser = options(__doc__, policy="h2o", budgets=(0.05, 0.1, 0.2), limit=210, output="runs")
    parser.add_argument("cell", choices=list(CELLS))
    parser.add_argument("kernels", help="a bundled name or a file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines: list[list[str]] = []
    for budget in args.budgets:
        records = records_of(args, float(budget))
        lines += lines_of(records, float(budget), whole=not lines)
    print(f"{args.cell}, kernels {args.kernels}, {processor()}\n")
    print(markdown(["policy", "tokens", "n", "score", "minus the policy alone"], lines))


def records_of(args: Any, budget: float) -> tuple[Record, ...]:
    """Run one budget."""
    less = {"name": "less", "over": args.policy, "kernels": args.kernels}
    own = f"fraction:{budget}"
    policies = [
        {"name": "full"},
        {"name": args.policy, "budget": own},
        {**less, "budget": own},
        {"name": args.policy, "budget": "match_bytes:less"},
    ]
    cell = {**CELLS[args.cell], "limit": args.limit, "policies": policies}
    settings = {"name": "less_models", "wandb": "disabled", "output": args.output}
    return run(from_mapping({**settings, "cells": {args.cell: cell}})).records


def lines_of(records: tuple[Record, ...], budget: float, *, whole: bool) -> Iterator[list[str]]:
    """Yield a line of the table for each way of running; that of the full cache if `whole`."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.policy, record.budget), []).append(record)
    names = {
        (policy, words_): ("full cache" if policy == "full" else policy)
        + (" with the bytes of LESS in tokens" if words_.startswith("match") else "")
        for policy, words_ in found
    }
    alone = next(sample_values(own) for key, own in found.items() if key[1].startswith("fraction"))
    for key, own in found.items():
        if key[0] == "full" and not whole:
            continue
        values = sample_values(own)
        difference = paired_difference(values, alone)
        kept = [r.memory.tokens_updated for r in own if r.memory and r.memory.tokens_updated]
        places = 1 if max(values.values()) > 10 else 3
        yield [
            names[key] + (f", {budget:.0%}" if key[0] != "full" else ""),
            words.tokens(sum(kept) / len(kept)) if kept else words.MISSING,
            str(len(values)),
            words.with_ends(mean_interval(list(values.values())), places),
            words.MISSING if values == alone else words.with_ends(difference, places, signed=True),
        ]


if __name__ == "__main__":
    main()
