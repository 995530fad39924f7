"""How much faster candidates are evaluated in one batch than one after the other.

    python research/benchmarks/evolution_speed.py --output research/results/evolution_speed.md
    python research/benchmarks/evolution_speed.py --fitness ratio    the published fitness

``namm-mm evolve`` runs the part of a prompt before the first eviction once for all candidates, and
the rest in one batch. Here the same prompts are also run for one candidate at a time, each from its
first token. Tokens are those that all candidates see, however they are shared. The two ways
alternate in one process, and the fastest of ``--rounds`` counts. With one thread the times are
processor seconds, on which other work on the machine has little effect; with more threads they are
wall seconds, since threads spend time waiting for each other.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence

import torch
import transformers
from torch import Tensor

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.evolution import prompts
from namm_mm.evolution.prompts import Prompt
from namm_mm.evolution.scoring import Conditions, Likelihood, Scorer, TaskScore
from namm_mm.namm import Namm
from namm_mm.policies.base import THRESHOLD
from namm_mm.runs import provenance
from namm_mm.tasks.long_text import LongTextTask
from research.benchmarks.common import markdown, options, write

FAMILIES = ("passkey", "key_value_hint", "passage", "cloze", "code")  # those of smollm2_warm
HEAD = (
    "population",
    "tokens/s one by one",
    "tokens/s batched",
    "speed-up",
    "seconds one by one",
    "seconds batched",
)


def main() -> None:
    """Measure, print and write the table."""
    parser = options(
        __doc__,
        model="smollm2-135m-instruct",
        fitness="likelihood",
        new_tokens=32,
        checkpoint="evolved",
        storage="per_head",
        threads=1,
        population=(12,),
        prompts=5,
        words=300,
        rounds=2,
        output=None,
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    published = args.fitness == "ratio"
    adapter = TextAdapter(
        model=args.model,
        answer_by="generate" if published else "likelihood",
        max_new_tokens=args.new_tokens,
    )
    adapter.load()
    task = LongTextTask(words=args.words, families=FAMILIES)
    batch = prompts.load(adapter, task, "train", args.prompts, 1, 0).all()
    start = Namm.from_pretrained(args.checkpoint)
    conditions = Conditions(start, THRESHOLD, args.storage)
    scorer: Scorer = Likelihood(adapter, conditions)
    if published:
        scorer = TaskScore(adapter, conditions, task)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for population in args.population:
        noise = torch.randn(population, len(start.parameters), generator=generator)
        rows.append(measure(scorer, batch, start.parameters + 0.02 * noise, args))
        print(rows[-1], flush=True)
    kind = str(next(adapter.backbone.parameters()).dtype).removeprefix("torch.")
    title = "# Evaluating a generation: candidates in one batch, and one by one"
    about = (
        f"Fitness {args.fitness}"
        + (f", up to {args.new_tokens} new tokens: " if published else ": ")
        + f"{args.model} in {kind}, {len(batch)} prompts of {mean_length(batch):.0f} tokens on "
        f"average, NAMM {args.checkpoint!r} with noise, storage {args.storage}, interval "
        f"{start.interval}, {args.threads} thread(s), "
        f"{'processor' if args.threads == 1 else 'wall'} seconds, the fastest of {args.rounds}."
    )
    versions = (
        f"{provenance.device_name('cpu')}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, transformers {transformers.__version__}, commit "
        f"{provenance.commit()[:7]}."
    )
    write("\n".join([title, "", about, "", markdown(HEAD, rows), "", versions, ""]), args.output)


def measure(
    scorer: Scorer, batch: Sequence[Prompt], vectors: Tensor, args: argparse.Namespace
) -> list[str]:
    """Return the row of a population: its size, tokens per second, the ratio, and seconds."""
    clock = time.process_time if args.threads == 1 else time.perf_counter
    ways = {"one by one": list(vectors[:, None]), "batched": [vectors]}
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(args.rounds):
        for name, groups in ways.items():
            begin = clock()
            results = [scorer.score(prompt, group) for prompt in batch for group in groups]
            seconds[name] = min(seconds[name], clock() - begin)
    tokens = sum(result["tokens"] for result in results)
    alone, batched = (tokens / seconds[name] for name in ways)
    return [
        str(len(vectors)),
        f"{alone:.0f}",
        f"{batched:.0f}",
        f"{batched / alone:.2f} x",
        f"{seconds['one by one']:.1f}",
        f"{seconds['batched']:.1f}",
    ]


def mean_length(batch: Sequence[Prompt]) -> float:
    """Return the mean number of tokens of the prompts."""
    return sum(len(prompt.inputs.token_types) for prompt in batch) / len(batch)


if __name__ == "__main__":
    main()
