"""Accuracy on the long-text task with the whole context, and with its newest quarter, by family.

    python research/benchmarks/text_tasks.py --samples 24

A family that the newest quarter answers as well as the whole context cannot reward a memory. The
table has the accuracy and the mean log-probability of the right answer with each context (nats,
with the standard error of the paired difference), and the processor seconds of a prompt with the
whole context.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace

import torch

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.records import Sample
from namm_mm.runs.provenance import device_name
from namm_mm.tasks.long_text import FAMILIES, LongTextTask
from research.benchmarks.common import options


def main() -> None:
    """Measure and print one line per family."""
    parser = options(
        __doc__,
        model="smollm2-135m-instruct",
        families=(*FAMILIES, "code"),
        samples=24,
        words=600,
        split="validation",
        seed=0,
        threads=1,
        chat=False,
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    adapter = TextAdapter(model=args.model, chat=args.chat)
    adapter.load()
    dtype = next(adapter.backbone.parameters()).dtype
    print(
        f"{args.model}, {dtype}, chat={args.chat}, torch {torch.__version__}, "
        f"{args.threads} of {os.cpu_count()} cores\n{device_name('cpu')}, {args.samples} samples "
        f"per family, {args.split} split, seed {args.seed}\n"
    )
    print(
        "family          tokens CPU s/prompt | full: right  logp | last quarter: right  logp |"
        " logp difference"
    )
    for family in args.families:
        print(line(family, adapter, args), flush=True)


def line(family: str, adapter: TextAdapter, args: argparse.Namespace) -> str:
    """Answer the samples of a family; return its line of the table."""
    task = LongTextTask(families=(family,), words=args.words)
    full, recent, tokens = [], [], []
    seconds = 0.0
    for sample in task.samples(args.split, args.samples, args.seed):
        inputs = adapter.prepare(sample)
        start = time.process_time()
        full.append(task.score(sample, adapter.answer(inputs, None)))
        seconds += time.process_time() - start
        tokens.append(len(inputs.token_types))
        newest = adapter.prepare(newest_quarter(sample))
        recent.append(task.score(sample, adapter.answer(newest, None)))
    whole, part = ([s.details["log_probability"] for s in scores] for scores in (full, recent))
    differences = [a - b for a, b in zip(whole, part, strict=True)]
    error = statistics.stdev(differences) / len(differences) ** 0.5
    mean = statistics.mean
    return (
        f"{family:15} {mean(tokens):6.0f} {seconds / len(full):12.2f} |"
        f" {mean(s.value for s in full):11.2f} {mean(whole):5.2f} |"
        f" {mean(s.value for s in recent):19.2f} {mean(part):5.2f} |"
        f" {mean(differences):+.2f} +- {error:.2f}"
    )


def newest_quarter(sample: Sample) -> Sample:
    """Return the sample with the last quarter of its context."""
    return replace(sample, context=sample.context[-len(sample.context) // 4 :])


if __name__ == "__main__":
    main()
