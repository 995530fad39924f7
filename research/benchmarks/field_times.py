"""CPU time of every policy of the experiment `field`, for each sample: to plan the whole run.

    python research/benchmarks/field_times.py --samples 2 --budget bytes:0.4

A table in Markdown goes to the standard output. CPU time of one thread is told, not wall time: it
is nearly the same on a busy machine. An episode of control counts as a sample.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from namm_mm.commands.compose import compose
from namm_mm.execution.progress import Silent
from namm_mm.experiment.acting import act_samples
from namm_mm.experiment.answering import answer_samples
from namm_mm.experiment.cell import Cell, labels
from namm_mm.experiment.loading import load, samples_of
from namm_mm.experiment.reading import from_mapping
from namm_mm.experiment.settings import CellSettings
from namm_mm.runs.provenance import collect, processor
from namm_mm.tasks.base import is_acting


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--budget", default="bytes:0.4")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [f"One thread of {processor()}.", "", "| cell | policy | CPU seconds a sample |"]
    lines.append("| --- | --- | ---: |")
    for cell in from_mapping(compose("transfer", ["experiment=field"])).cells:
        for policy, seconds in times(cell, args.samples, args.budget):
            lines.append(f"| {cell.name} | {policy} | {seconds:.2f} |")
    sys.stdout.write("\n".join(lines) + "\n")


def times(settings: CellSettings, samples: int, budget: str) -> Iterator[tuple[str, float]]:
    """Yield each policy of a cell that has no budget or this one, and its seconds a sample."""
    adapter, task = load(settings, Silent())
    chosen = samples_of(task, replace(settings, limit=samples), 0)
    for policy in settings.policies:
        if policy.budget not in ("own", budget, f"pool_{budget}"):
            continue
        cell = Cell(
            experiment="field",
            settings=replace(settings, policies=(policy,)),
            adapter=adapter,
            task=task,
            dataset="",
            seed=0,
            provenance=collect("", "cpu"),
        )
        start = time.process_time()
        run = act_samples if is_acting(task) else answer_samples
        failed = [record.error for record in run(cell, chosen) if record.error]
        if failed:
            raise SystemExit(f"{policy.name}: {failed[0]}")
        yield " ".join(dict.fromkeys(labels(policy))), (time.process_time() - start) / len(chosen)


if __name__ == "__main__":
    main()
