"""Whether kernels of LESS that were trained under one policy serve another.

    python research/benchmarks/less_transfer.py --layers 5 16 26

For each policy, kernels of a few layers are trained alone, as ``namm-mm build less`` does, and
judged under every policy on sequences that were held out: the part of the layer's output error
that the state gives back.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.policies import create
from namm_mm.runs.provenance import processor
from research.benchmarks.common import options
from research.residuals import recording, training

Table = dict[tuple[str, str], float]
"""(trained under, used under) -> part of the output error that is recovered, mean of sequences."""


def main() -> None:
    """Train, judge and print one table for each layer, and their mean."""
    parser = options(
        __doc__,
        model="smollm2-135m-instruct",
        policies=("h2o", "recency", "snapkv", "random"),
        layers=(5, 16, 26),
        budget=0.1,
        sequences=24,
        held_out=8,
        tokens=512,
        interval=128,
        epochs=40,
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    adapter = TextAdapter(model=args.model)
    adapter.load()
    model: Any = adapter.backbone
    given: list[torch.Tensor] = []
    for split, count in (("train", args.sequences), ("test", args.held_out)):
        given += recording.cut_prose(adapter.tokenizer, split, count, args.tokens)
    recorded = recording.record(model, given)
    print(f"{args.model}, {processor()}, budget {args.budget:.0%}, {args.held_out} sequences\n")
    tables = []
    for layer in (int(number) for number in args.layers):
        start = time.process_time()
        weight = model.model.layers[layer].self_attn.o_proj.weight.detach().float()
        tables.append(
            judged(
                recorded[layer],
                weight,
                args.policies,
                budget=args.budget,
                held_out=args.held_out,
                interval=args.interval,
                epochs=args.epochs,
                place=(layer, len(recorded)),
            )
        )
        print(f"Layer {layer}, {time.process_time() - start:.0f} CPU seconds\n")
        print(shown(tables[-1], args.policies), flush=True)
    mean = {key: sum(table[key] for table in tables) / len(tables) for key in tables[0]}
    print(f"Mean of the layers\n\n{shown(mean, args.policies)}")


def judged(
    recorded: list[recording.Attended], weight: torch.Tensor, policies: list[str], *,
    budget: float, held_out: int, interval: int, epochs: int, place: tuple[int, int],
) -> Table:  # fmt: skip
    """Train under each policy, judge under each policy."""
    examples = {}
    for name in policies:
        policy = create(name, budget=budget)
        examples[name] = [
            training.make_example(
                one, recording.visible(one, policy, interval, *place), interval, weight
            )
            for one in recorded
        ]
    first, found = recorded[0], {}
    for trained in policies:
        torch.manual_seed(place[0])
        part = training.new_part(
            first.queries.shape[0], first.keys.shape[0], first.keys.shape[2], 64, 8
        )
        part = training.train(part, examples[trained][:-held_out], interval, weight, epochs)
        for used in policies:
            with torch.no_grad():
                without, left = 0.0, 0.0
                for one in examples[used][-held_out:]:
                    out = training.joined(part, one, interval)
                    without += float(training.error(one.sparse, one, interval, weight))
                    left += float(training.error(out, one, interval, weight))
            found[trained, used] = 1 - left / without
    return found


def shown(table: Table, policies: list[str]) -> str:
    """Return a table in Markdown."""
    rows = [
        f"| trained under | {' | '.join(f'used under {name}' for name in policies)} |",
        "| --- |" + " ---: |" * len(policies),
    ]
    for trained in policies:
        cells = (f"{table[trained, used]:.0%}" for used in policies)
        rows.append(f"| {trained} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
