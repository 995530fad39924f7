"""Does the long-text task need a long memory? Full context against its newest quarter, per family.

    python research/benchmarks/text_tasks.py --samples 24

A family that a recent window answers as well as the full context cannot reward a memory. Prints the
accuracy and the mean log-probability of the right answer (nats, with the standard error of the
paired difference) with the whole context, and with its last quarter only; processor seconds of a
prompt with the whole context.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from dataclasses import replace

import torch

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.records import Sample
from namm_mm.tasks.long_text import FAMILIES, LongTextTask


def main() -> None:
    """Measure and print one line per family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--families", nargs="+", default=[*FAMILIES, "code"])
    parser.add_argument("--samples", type=int, default=24, help="per family")
    parser.add_argument("--words", type=int, default=600)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--chat", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    adapter = TextAdapter(model=args.model, chat=args.chat)
    adapter.load()
    dtype = next(adapter.backbone.parameters()).dtype
    print(f"{args.model}, {dtype}, chat={args.chat}, torch {torch.__version__}, ", end="")
    print(f"{args.threads} of {os.cpu_count()} cores")
    print(
        f"{platform.processor() or platform.machine()}, {args.samples} samples per family, "
        f"{args.split} split, seed {args.seed}\n"
    )
    print(
        "family          tokens CPU s/prompt | full: right  logp | last quarter: right  logp |"
        " logp difference"
    )
    for family in args.families:
        task = LongTextTask(families=(family,), words=args.words)
        full, recent, tokens = [], [], []
        seconds = 0.0
        for sample in task.samples(args.split, args.samples, args.seed):
            inputs = adapter.prepare(sample)
            start = time.process_time()
            full.append(task.score(sample, adapter.answer(inputs, None)))
            seconds += time.process_time() - start
            tokens.append(len(inputs.token_types))
            recent.append(task.score(sample, adapter.answer(adapter.prepare(newest(sample)), None)))
        whole, part = ([s.details["log_probability"] for s in scores] for scores in (full, recent))
        gaps = [a - b for a, b in zip(whole, part, strict=True)]
        error = statistics.stdev(gaps) / len(gaps) ** 0.5
        mean = statistics.mean
        print(
            f"{family:15} {mean(tokens):6.0f} {seconds / len(full):12.2f} |"
            f" {mean(s.value for s in full):11.2f} {mean(whole):5.2f} |"
            f" {mean(s.value for s in recent):19.2f} {mean(part):5.2f} |"
            f" {mean(gaps):+.2f} +- {error:.2f}",
            flush=True,
        )


def newest(sample: Sample) -> Sample:
    """Leave the last quarter of the context."""
    return replace(sample, context=sample.context[-len(sample.context) // 4 :])


if __name__ == "__main__":
    main()
