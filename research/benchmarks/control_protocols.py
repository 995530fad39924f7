"""Ways to remember in control, side by side: returns, and environment steps per second.

    python research/benchmarks/control_protocols.py --environments 8
    python research/benchmarks/control_protocols.py --environments 32 --steps 120      (speed only)

The protocols are those of ``control_memory.py``: ``window`` re-encodes the last steps at every
step, as Decision Transformers are published; ``full`` is one cache of all steps; ``recency`` is the
same cache, cut at every interval to as many newest tokens as the window has, or as in
``recency:62``; ``namm`` is what the NAMM keeps. Speed covers model and simulator; a step is one
step of one environment that still runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence

import torch

from namm_mm.records import Sample
from namm_mm.runs.provenance import device_name
from namm_mm.tasks.offline_rl import OfflineRlTask
from research.benchmarks.common import NAMM, chosen_policy, options
from research.benchmarks.control_memory import PROTOCOLS, make_agent, remembering, window_tokens


def main() -> None:
    """Play the same environment seeds under each protocol and print one line for each."""
    parser = options(
        __doc__,
        model="pocket_rl_hopper",
        environment="Hopper-v5",
        hidden_velocities=False,
        orders=False,
        environments=8,
        steps=1000,
        interval=48,
        checkpoint="evolved",
        budget="pool:0.1",
        storage="per_head",
        split="test",
        protocols=PROTOCOLS,
        threads=1,
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    task = OfflineRlTask(
        args.environment,
        max_steps=args.steps,
        hidden_velocities=args.hidden_velocities,
        orders=args.orders,
    )
    samples = task.samples(args.split, args.environments, 0)
    print(
        f"{args.model}, {task.family}, {args.environments} environments x {args.steps} steps, "
        f"{args.split} seeds, target {task.target_return():.0f}, interval {args.interval}, "
        f"NAMM {args.checkpoint} {args.budget}"
    )
    print(
        f"{device_name('cpu')}, {args.threads} of {os.cpu_count()} cores, "
        f"torch {torch.__version__}\n"
    )
    print("protocol     score   +-se  return  length  tokens at end  steps/s  steps/CPU-s")
    for protocol in args.protocols:
        print(line(protocol, args, task, samples), flush=True)


def line(
    protocol: str, args: argparse.Namespace, task: OfflineRlTask, samples: Sequence[Sample]
) -> str:
    """Play all samples under a protocol; return its line of the table."""
    namm = chosen_policy(NAMM, args.checkpoint, args.budget)
    with remembering(protocol, args, namm) as (adapter, memory):
        wall, processor = time.perf_counter(), time.process_time()
        agent = make_agent(adapter, memory, len(samples), task.target_return())
        episodes, tokens = [], []
        for episode in task.play(samples, agent):
            episodes.append(episode)
            if memory is not None:
                tokens.append(memory.usage(episode.row).tokens_final)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        window = window_tokens(adapter)
    scores = [episode.score.value for episode in episodes]
    error = statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else 0.0
    steps = sum(len(episode.rewards) for episode in episodes)
    return (
        f"{protocol:<11} {statistics.mean(scores):6.1f} {error:6.1f} "
        f"{statistics.mean(sum(e.rewards) for e in episodes):7.0f} "
        f"{steps / len(episodes):7.0f} "
        f"{statistics.mean(tokens) if tokens else window:14.0f} "
        f"{steps / wall:8.0f} {steps / processor:12.0f}"
    )


if __name__ == "__main__":
    main()
