"""Three ways to remember in control, side by side: returns, and environment steps per second.

    python research/benchmarks/control_protocols.py --environments 8
    python research/benchmarks/control_protocols.py --environments 32 --steps 120      (speed only)

``window``: the last steps are re-encoded at every step, as Decision Transformers are published.
``full``: one cache of all steps, never evicted. ``recency``: the same cache, cut at every interval
to as many newest tokens as the window has, or as in ``recency:62``. ``namm``: what the NAMM keeps.
Speed covers model and simulator; a step is one step of one environment that still runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from namm_mm import attach, policy
from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.policies import Budget, budgets
from namm_mm.records import Agent
from namm_mm.tasks.offline_rl import OfflineRlTask


def main() -> None:
    """Play the same environment seeds under each protocol and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket_rl_hopper")
    parser.add_argument("--environment", default="Hopper-v5")
    parser.add_argument("--dataset", default="pocket", help="d4rl/NAME sets the published target")
    parser.add_argument("--hidden-velocities", action="store_true")
    parser.add_argument("--orders", action="store_true")
    parser.add_argument("--environments", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--interval", type=int, default=48, help="tokens between two evictions")
    parser.add_argument("--checkpoint", default="evolved", help="the NAMM")
    parser.add_argument("--budget", default="pool:0.1", help="of the NAMM")
    parser.add_argument("--storage", default="per_head", help="of the NAMM, or shared")
    parser.add_argument("--split", default="test")
    parser.add_argument("--protocols", nargs="+", default=["window", "full", "recency", "namm"])
    parser.add_argument("--threads", type=int, default=1)
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
        f"{platform.processor() or platform.machine()}, {args.threads} of {os.cpu_count()} cores, "
        f"torch {torch.__version__}\n"
    )
    print("protocol     score   +-se  return  length  tokens at end  steps/s  steps/CPU-s")
    for protocol in args.protocols:
        adapter = DecisionTransformerAdapter(args.model, device="cpu")
        adapter.load()
        name, _, tokens_kept = protocol.partition(":")
        newest = Budget(tokens=int(tokens_kept or 3 * adapter.control_facts.window))
        attached: Any = nullcontext()
        chosen: Any
        if name == "recency":
            chosen = policy("recency", budget=newest, sinks=0)
            attached = attach(adapter.backbone, chosen, interval=args.interval)
        elif name == "namm":
            chosen = policy("namm", checkpoint=args.checkpoint)
            chosen = replace(chosen, budget=budgets.parse(args.budget, {}))
            attached = attach(
                adapter.backbone, chosen, interval=args.interval, storage=args.storage
            )
        elif protocol != "window":
            attached = attach(adapter.backbone, policy(protocol), interval=args.interval)
        wall, processor = time.perf_counter(), time.process_time()
        with attached as memory:
            count, target = len(samples), task.target_return()
            if protocol == "window":
                tokens_held = 3 * adapter.control_facts.window
                agent: Agent = adapter.window_agent(count, tokens_held, target_return=target)
            else:
                agent = adapter.agent(count, memory, target_return=target)
            episodes, tokens = [], []
            for episode in task.play(samples, agent):
                episodes.append(episode)
                if memory is not None:
                    tokens.append(memory.usage(episode.row).tokens_final)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        scores = [episode.score.value for episode in episodes]
        error = statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else 0.0
        steps = sum(len(episode.rewards) for episode in episodes)
        print(
            f"{protocol:<11} {statistics.mean(scores):6.1f} {error:6.1f} "
            f"{statistics.mean(sum(e.rewards) for e in episodes):7.0f} "
            f"{steps / len(episodes):7.0f} "
            f"{statistics.mean(tokens) if tokens else 3 * adapter.control_facts.window:14.0f} "
            f"{steps / wall:8.0f} {steps / processor:12.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
