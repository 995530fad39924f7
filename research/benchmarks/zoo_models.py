"""The entry test of the zoo: a model needs its memory, and has it.

    python research/benchmarks/zoo_models.py

Prints, for each model that was trained, the part of the answers' tokens that are right on fresh
validation samples of the recall families: with the full cache, and with recency, H2O and random
eviction at a quarter of the tokens.
"""

from __future__ import annotations

import argparse

import torch

from namm_mm.memory import attach
from namm_mm.policies.base import Policy
from namm_mm.policies.creating import create
from research.zoo.judging import Case, card, draw
from research.zoo.recipes import LEFT_OUT, RECIPES
from research.zoo.training import LENGTH, zoo_folder

INTERVAL, SEED = 32, 7
ENOUGH, MOST = 0.8, 0.5  # with the full cache, and of that with recency


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=30, help="samples of each model")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | parameters | full | recency .25 | H2O .25 | random .25 | passes |")
    print("| --- " * 7 + "|")
    for name in RECIPES:
        if zoo_folder(name).is_dir():
            judge = draw(name, "validation", SEED, args.samples, LENGTH)
            rules = ("recency", "h2o", "random")
            full, *held = [right(judge, create("full"))] + [
                right(judge, create(rule, budget=0.25)) for rule in rules
            ]
            passes = "yes" if full >= ENOUGH and held[0] <= MOST * full else "no"
            shown = " | ".join(f"{value:.2f}" for value in (full, *held))
            mark = " (left out)" if name in LEFT_OUT else ""
            print(f"| {name}{mark} | {card(name)['parameters']} | {shown} | {passes} |", flush=True)


def right(judge: Case, policy: Policy) -> float:
    """Return the part of the answers' tokens that are the most likely ones, teacher-forced."""
    tokens, answers = judge.samples.tokens, judge.samples.answers[:, 1:]
    with torch.no_grad(), attach(judge.model, policy, interval=INTERVAL, storage="shared"):
        best = judge.model(input_ids=tokens[:, :-1], use_cache=True).logits.argmax(-1)
    return float((best == tokens[:, 1:])[answers].float().mean())


if __name__ == "__main__":
    main()
