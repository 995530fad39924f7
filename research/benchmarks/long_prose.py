"""What eviction costs in long prose, where nobody asks a question.

    python research/benchmarks/long_prose.py --out research/results/long_prose_smollm2

Log-loss of the last tokens of each passage, after many updates, for policies with the same size in
all heads and with the sizes of a probe (part C of research/protocol.md). Writes OUT.jsonl, a line
for each passage and cell; what is there is not run again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.memory import attach
from namm_mm.policies import create
from namm_mm.policies.base import Policy
from namm_mm.results.statistics import mean_interval
from namm_mm.runs.provenance import processor
from research.benchmarks.common import options
from research.residuals.recording import cut_prose

FULL = "full"


def main() -> None:
    """Run what is missing, and print the table."""
    parser = options(
        __doc__,
        model="smollm2-135m-instruct",
        orders=("namm", "h2o", "attention_max", "recency", "random"),
        budget="fraction:0.4",
        passages=6,
        tokens=4096,
        scored=256,
        interval=128,
        split="test",
    )
    parser.add_argument("--out", type=Path, required=True, help="file without its ending")
    args = parser.parse_args()
    torch.set_num_threads(1)
    adapter = TextAdapter(model=args.model)
    adapter.load()
    path = Path(f"{args.out}.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = [json.loads(line) for line in lines]
    cells = {
        f"{sizes} {order}": _policy(sizes, order, args.budget)
        for order in args.orders
        for sizes in ("equal", "probed")
    }
    passages = cut_prose(adapter.tokenizer, args.split, args.passages, args.tokens)
    for number, tokens in enumerate(passages):
        for line in run(adapter.backbone, number, tokens, cells, args, found):
            found.append(line)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    print(f"{args.model}, {args.tokens} tokens, interval {args.interval}, {processor()}.\n")
    print(in_words([line for line in found if line["budget"] in (FULL, args.budget)]))


def _policy(sizes: str, order: str, budget: str) -> Policy:
    if sizes == "probed":
        return create("probed", over=order, budget=budget)
    return create(order, budget=budget)


def run(
    model: Any,
    number: int,
    tokens: Tensor,
    cells: Mapping[str, Policy],
    args: Any,
    found: Sequence[Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Yield a line for each cell of a passage that is not among those found."""
    done = {(line["passage"], line["budget"], line["cell"]) for line in found}
    wanted = {FULL: (FULL, create("full"))}
    wanted |= {name: (args.budget, policy) for name, policy in cells.items()}
    for name, (budget, policy) in wanted.items():
        if (number, budget, name) in done:
            continue
        clock = time.process_time()
        loss, kept = log_loss(model, tokens, policy, args.interval, args.scored)
        yield {
            "passage": number,
            "budget": budget,
            "cell": name,
            "nats": round(loss, 4),
            "kept": round(kept, 4),
            "cpu_seconds": round(time.process_time() - clock, 1),
        }


def log_loss(
    model: Any, tokens: Tensor, policy: Policy, interval: int, scored: int
) -> tuple[float, float]:
    """Return nats a token of the last `scored`, and the part held right after the last update."""
    with (
        torch.no_grad(),
        attach(model, policy, interval=interval, storage="per_head") as memory,
    ):
        logits = model(input_ids=tokens, use_cache=True, logits_to_keep=scored + 1).logits
        use = memory.usage()
    asked = tokens[:, -scored:]
    chosen = logits[:, :-1].float().log_softmax(-1).gather(2, asked[..., None])
    kept = 1.0
    if use.tokens_updated is not None and use.seen_updated:
        kept = use.tokens_updated / use.seen_updated
    return -float(chosen.mean()), kept


def in_words(found: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table: nats above the full cache."""
    full = {line["passage"]: line["nats"] for line in found if line["cell"] == FULL}
    rows = ["| cell | n | nats above the full cache | kept | CPU s |", "| --- " * 5 + "|"]
    for cell in dict.fromkeys(line["cell"] for line in found if line["cell"] != FULL):
        mine = [line for line in found if line["cell"] == cell]
        above = mean_interval([line["nats"] - full[line["passage"]] for line in mine])
        kept, spent = (sum(line[k] for line in mine) / len(mine) for k in ("kept", "cpu_seconds"))
        shown = "" if above is None else f"{above.mean:+.3f} [{above.low:+.3f}, {above.high:+.3f}]"
        rows.append(f"| {cell} | {len(mine)} | {shown} | {kept:.3f} | {spent:.1f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
