"""How much faster candidates are evaluated together than one after the other.

The evaluation loop of `namm-mm evolve` runs the part of a prompt before the first eviction once for
all candidates, and the rest in one batch. Here the same prompts are also run for one candidate at
a time, each from its first token. Tokens are those that candidates see, however they are shared.
Both ways are taken in turn, in one process; the fastest of `--rounds` is taken. With one thread
seconds are those of the processor, so that other work on the machine hardly counts; with more they
are those of the clock, since waiting for each other is what threads spend time on.

In `research/`:

    python benchmarks/evolution_speed.py --output research/results/evolution_speed.md
    python benchmarks/evolution_speed.py --fitness ratio    the published one, which generates
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.evolution import prompts
from namm_mm.evolution.scoring import Conditions, Likelihood, TaskScore
from namm_mm.namm import Namm
from namm_mm.policies.base import THRESHOLD
from namm_mm.runs import provenance
from namm_mm.tasks.long_text import LongTextTask

FAMILIES = ("passkey", "key_value_hint", "passage", "cloze", "code")  # those of smollm2_warm


def main() -> None:
    """Measure, print and write the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    published = options.fitness == "ratio"
    adapter = TextAdapter(
        model=options.model,
        answer_by="generate" if published else "likelihood",
        max_new_tokens=options.new_tokens,
    )
    adapter.load()
    task = LongTextTask(words=options.words, families=FAMILIES)
    batch = prompts.load(adapter, task, "train", options.prompts, 1, 0).all()
    start = Namm.from_pretrained(options.checkpoint)
    conditions = Conditions(start, THRESHOLD, options.storage)
    scorer: Any = Likelihood(adapter, conditions)
    if published:
        scorer = TaskScore(adapter, conditions, task)
    generator = torch.Generator().manual_seed(0)
    lines = []
    for population in options.population:
        noise = torch.randn(population, len(start.parameters), generator=generator)
        vectors = start.parameters + 0.02 * noise
        times: dict[str, float] = {}
        for _ in range(options.rounds):
            for name, groups in (("together", [vectors]), ("one by one", list(vectors[:, None]))):
                begin = clock()
                tokens, values = 0, []
                for prompt in batch:
                    found = [scorer.score(prompt, group) for group in groups]
                    tokens += sum(result["tokens"] for result in found)
                    values += [value for result in found for value in result["values"]]
                seconds = clock() - begin
                times[name] = min(times.get(name, seconds), seconds)
        together, alone = (tokens / times[name] for name in ("together", "one by one"))
        lines.append(
            f"| {population} | {alone:.0f} | {together:.0f} | {together / alone:.2f} x | "
            f"{times['one by one']:.1f} | {times['together']:.1f} |"
        )
        print(lines[-1], flush=True)
    length = sum(len(prompt.inputs.token_types) for prompt in batch) / len(batch)
    kind = str(next(adapter.backbone.parameters()).dtype).removeprefix("torch.")
    text = "\n".join(
        (
            "# Evaluating a generation: candidates together, and one by one",
            "",
            f"Fitness {options.fitness}"
            + (f", up to {options.new_tokens} new tokens: " if published else ": ")
            + f"{options.model} in {kind}, {len(batch)} prompts of {length:.0f} tokens on average, "
            f"NAMM {options.checkpoint!r} with noise, storage {options.storage}, interval "
            f"{start.interval}, {options.threads} thread(s), seconds of the "
            f"{'processor' if options.threads == 1 else 'clock'}, the fastest of {options.rounds}.",
            "",
            "| population | tokens/s one by one | tokens/s together | speed-up "
            "| seconds one by one | seconds together |",
            "| ---: | ---: | ---: | ---: | ---: | ---: |",
            *lines,
            "",
            f"{_processor()}, Python {platform.python_version()}, torch {torch.__version__}, "
            f"transformers {transformers.__version__}, commit {provenance.commit()[:7]}.",
            "",
        )
    )
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--fitness", default="likelihood", choices=["likelihood", "ratio"])
    parser.add_argument("--new-tokens", type=int, default=32, help="of an answer, under ratio")
    parser.add_argument("--checkpoint", default="evolved")
    parser.add_argument("--storage", default="per_head", help="or shared")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--population", type=int, nargs="+", default=[12])
    parser.add_argument("--prompts", type=int, default=5)
    parser.add_argument("--words", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
