"""How much of an answer is where memory is, and how much is which tokens are in it.

    python research/benchmarks/factorial.py --samples 20 --out research/results/factorial_smollm2

Sizes of heads x order of tokens, for one language model and one budget (parts A, C and D of
research/protocol.md). `--kind bytes` takes the budget in bytes: sizes are equal or probed then.
Every cell sees the same samples. Writes OUT.jsonl, a line for each sample and cell; what is there
is not run again, so that a stopped run continues.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product, starmap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.evolution.prompts import Prompt, Prompts, Tokenized
from namm_mm.memory import attach
from namm_mm.policies import budgets
from namm_mm.policies.base import Budget, Policy
from namm_mm.policies.creating import create
from namm_mm.policies.head_table import HeadTable
from namm_mm.records import Trace
from namm_mm.results.statistics import Interval, mean_interval
from namm_mm.runs.provenance import processor
from namm_mm.tasks.long_text.task import LongTextTask
from research.benchmarks.oracle_order import Oracle, oracle_scores
from research.builders.text.head_table import head_parts

SIZES = ("equal", "adakv", "namm", "table", "probed")
SEEDED = ("probed_seed_1", "probed_seed_2")
"""Sizes of other probes of the same model."""

ORDERS = ("namm", "h2o", "snapkv", "attention_max", "recency", "random")
ORACLE = "oracle"
"""By the attention at the end of the prompt and of the answer; sizes are equal or probed."""

FULL = "full"
TABLE_PROMPTS = 20


@dataclass(frozen=True)
class Cell:
    """One combination of the factorial; an order of ``namm:CHECKPOINT`` is that of this NAMM."""

    sizes: str
    order: str

    @property
    def shown(self) -> str:
        """The order in a line: a file without its folder and ending."""
        name, colon, checkpoint = self.order.partition(":")
        return f"{name}{colon}{Path(checkpoint).stem}"


@dataclass(frozen=True, eq=False)
class Bench:
    """A loaded model and the conditions of the factorial."""

    model: Any
    kind: str
    fraction: float
    interval: int
    checkpoint: str
    table: Path
    oracle: tuple[Tensor, ...] = ()

    @property
    def budget(self) -> str:
        """The words of the budget."""
        return f"{self.kind}:{self.fraction:g}"

    def order(self, name: str, budget: budgets.AnyBudget) -> Policy:
        """Return the policy whose order is taken, with a budget."""
        if name == ORACLE:
            return Oracle(budget=budget, scores=self.oracle)
        policy, _, checkpoint = name.partition(":")
        options = {"checkpoint": checkpoint or self.checkpoint} if policy == "namm" else {}
        return create(policy, budget=budget, **options)

    def policy(self, cell: Cell, trace: Trace) -> Policy:
        """Return the policy of a cell; `trace` are the NAMM's own sizes on this sample."""
        if cell.sizes == "equal":
            return self.order(cell.order, self.budget)
        if cell.sizes in ("probed", *SEEDED):
            seed = (SEEDED.index(cell.sizes) + 1) if cell.sizes in SEEDED else 0
            return create("probed", over=self.order(cell.order, self.budget), seed=seed)
        if cell.sizes == "adakv":
            return create("adakv", over=self.order(cell.order, f"fraction:{self.fraction}"))
        if cell.sizes == "table":
            return self.order(cell.order, f"heads:{self.table}")
        return self.order(cell.order, Budget(trace=trace, matched="match_heads:namm"))


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a language model")
    parser.add_argument("--dtype", default="bfloat16", help="of the model and its cache")
    parser.add_argument("--checkpoint", default="general", help="the NAMM")
    parser.add_argument("--kind", default="fraction", choices=("fraction", "bytes"))
    parser.add_argument("--sizes", nargs="+", default=SIZES, choices=SIZES + SEEDED)
    parser.add_argument(
        "--orders", nargs="+", default=ORDERS, type=_order, help="also oracle, namm:CHECKPOINT"
    )
    parser.add_argument("--fraction", type=float, default=0.4, help="part of the tokens that stays")
    parser.add_argument("--interval", type=int, default=128, help="tokens between two evictions")
    parser.add_argument("--words", type=int, default=300, help="words of a prompt")
    parser.add_argument("--split", default="validation", help="validation or test")
    parser.add_argument("--seed", type=int, default=1, help="of the samples")
    parser.add_argument("--samples", type=int, default=20, help="number of prompts")
    parser.add_argument("--out", type=Path, required=True, help="file without its ending")
    args = parser.parse_args()
    torch.set_num_threads(1)
    adapter = TextAdapter(model=args.model, dtype=args.dtype)
    adapter.load()
    task, tokenized = LongTextTask(words=args.words), Tokenized(adapter)
    table = args.out.with_name(f"{args.out.name}_heads_{args.fraction:g}.json")
    how = (args.kind, args.fraction, args.interval, args.checkpoint, table)
    bench, cells = (
        Bench(adapter.backbone, *how),
        list(starmap(Cell, product(args.sizes, args.orders))),
    )
    if "table" in args.sizes and not table.is_file():
        training = Prompts(tokenized, task.samples("train", TABLE_PROMPTS, 0)).all()
        make_table(bench, adapter.model_name, [prompt.inputs.tensors for prompt in training])
    path = args.out.with_suffix(".jsonl")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = [json.loads(line) for line in lines]
    for prompt in Prompts(tokenized, task.samples(args.split, args.samples, args.seed)).all():
        for line in run(bench, prompt, cells, found):
            found.append(line)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    print(in_words([line for line in found if line["budget"] in (FULL, bench.budget)]))


def _order(given: str) -> str:
    """Return an order of tokens that is known."""
    if given not in (*ORDERS, ORACLE) and not given.startswith("namm:"):
        known = ", ".join((*ORDERS, ORACLE))
        raise argparse.ArgumentTypeError(
            f"unknown order: got {given!r}, expected {known} or namm:CHECKPOINT"
        )
    return given


def make_table(bench: Bench, model: str, prompts: Sequence[Mapping[str, Tensor]]) -> None:
    """Write the table of the NAMM's mean sizes at this budget on training prompts."""
    policy = bench.order("namm", f"pool:{bench.fraction}")
    parts = head_parts(bench.model, [dict(prompt) for prompt in prompts], policy, bench.interval)
    card = {"model": model, "policy": "namm", "budget": f"pool:{bench.fraction}"}
    HeadTable(parts, {**card, "prompts": len(prompts)}).save(bench.table)


def run(
    bench: Bench, prompt: Prompt, cells: Sequence[Cell], found: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield a line for each cell of a prompt that is not among those found."""
    name = prompt.inputs.sample.id
    done = {
        (line["sizes"], line["order"])
        for line in found
        if line["sample"] == name and line["budget"] in (FULL, bench.budget)
    }
    line = partial(_line, bench, prompt)
    if (FULL, FULL) not in done:
        yield line(Cell(FULL, FULL), create("full"), FULL)[0]
    missing = [cell for cell in cells if (cell.sizes, cell.shown) not in done]
    trace = Trace()
    if any(cell.sizes == "namm" for cell in missing):
        shared = bench.order("namm", f"pool:{bench.fraction}")
        _, trace = line(Cell("own", "namm"), shared, bench.budget)
    if any(cell.order == ORACLE for cell in missing):
        asked, answer = prompt.inputs.tensors["input_ids"], torch.tensor([prompt.answer])
        tokens = torch.cat([asked, answer.to(asked.device)[:, :-1]], 1)
        bench = replace(bench, oracle=oracle_scores(bench.model, tokens, answer.shape[1]))
    for cell in missing:
        yield _line(bench, prompt, cell, bench.policy(cell, trace), bench.budget)[0]


def _line(
    bench: Bench, prompt: Prompt, cell: Cell, policy: Policy, budget: str
) -> tuple[dict[str, Any], Trace]:
    asked = prompt.inputs.tensors["input_ids"]
    answer = torch.tensor([prompt.answer], device=asked.device)
    tokens, clock = torch.cat([asked, answer[:, :-1]], 1), time.process_time()
    with (
        torch.no_grad(),
        attach(bench.model, policy, interval=bench.interval, storage="per_head") as memory,
    ):
        logits = bench.model(
            input_ids=tokens, use_cache=True, logits_to_keep=answer.shape[1]
        ).logits.float()
        trace, use = memory.trace(), memory.usage()
    chosen = logits.log_softmax(-1).gather(2, answer[..., None])
    line = {
        "sample": prompt.inputs.sample.id,
        "family": prompt.family,
        "budget": budget,
        "sizes": cell.sizes,
        "order": cell.shown,
        "exact": float(bool((logits.argmax(-1) == answer).all())),
        "nats": round(float(chosen.mean()), 4),
        "kept": _kept(trace, bench.interval),
        "bytes": use.live_updated or use.bytes_final,
        "dtype": str(bench.model.dtype).removeprefix("torch."),
        "processor": processor(),
        "cpu_seconds": round(time.process_time() - clock, 2),
    }
    return line, trace


def _kept(trace: Trace, interval: int) -> float:
    """Part of the tokens that were held right after the last update, mean over all heads."""
    if not trace.sizes:
        return 1.0
    held = [size for layer in trace.sizes[-1] for size in layer]
    return round(sum(held) / len(held) / (interval * len(trace.sizes)), 4)


def in_words(found: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table: exact match and nats to the full cache of each cell."""
    full = {line["sample"]: line["nats"] for line in found if line["sizes"] == FULL}
    rows = ["| sizes | order | n | exact match | nats to full | kept | CPU s |"]
    rows.append("| --- " * 7 + "|")
    for cell in dict.fromkeys((line["sizes"], line["order"]) for line in found):
        mine = [line for line in found if (line["sizes"], line["order"]) == cell]
        exact = mean_interval([line["exact"] for line in mine])
        nats = mean_interval([line["nats"] - full[line["sample"]] for line in mine])
        kept, spent = (sum(line[k] for line in mine) / len(mine) for k in ("kept", "cpu_seconds"))
        parts = (*cell, len(mine), _shown(exact), _shown(nats), f"{kept:.2f}", f"{spent:.1f}")
        rows.append("| " + " | ".join(map(str, parts)) + " |")
    return "\n".join(rows)


def _shown(found: Interval | None) -> str:
    return "" if found is None else f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


if __name__ == "__main__":
    main()
