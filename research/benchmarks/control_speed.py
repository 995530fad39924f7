"""Environment steps per second of the ways to remember in control, at one batch size.

    python research/benchmarks/control_speed.py
    python research/benchmarks/control_speed.py --model pocket_rl_halfcheetah_orders \
        --environment HalfCheetah-v5 --orders

``model`` times the agent alone, on noise; ``whole`` times play with the simulator, whose own speed
is given in the last column: no agent can make play faster than that. Steps are per second of
processor time, the best of several rounds in which the protocols take turns, so that other work on
the machine counts little. ``window`` re-encodes its steps at every step; the others feed each token
once to a preallocated cache.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from namm_mm import attach, policy
from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.policies import Budget, Threshold
from namm_mm.tasks.offline_rl import OfflineRlTask

PROTOCOLS = ("window", "full", "recency", "namm")


def main() -> None:
    """Time each protocol and print one line for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket_rl_hopper")
    parser.add_argument("--environment", default="Hopper-v5")
    parser.add_argument("--orders", action="store_true")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--interval", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--protocols", nargs="+", default=PROTOCOLS, choices=PROTOCOLS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = OfflineRlTask(args.environment, max_steps=args.steps, orders=args.orders)
    samples = task.samples("validation", args.batch, 0)
    print(
        f"{args.model} in {task.family}, batch {args.batch}, {args.steps} steps, "
        f"interval {args.interval}\n{platform.processor() or platform.machine()}, 1 of "
        f"{os.cpu_count()} cores, torch {torch.__version__}; steps per second of processor time, "
        f"best of {args.rounds} rounds\n"
    )
    print("protocol   model  x window   whole  x window  simulator alone")
    simulator = 0.0
    model, play = (dict.fromkeys(args.protocols, 0.0) for _ in range(2))
    for _ in range(args.rounds):
        simulator = max(simulator, _play(_Still(task), task, samples))
        for protocol in args.protocols:
            with _agent(protocol, args, task) as agent:
                model[protocol] = max(model[protocol], _act(agent, args, task))
            with _agent(protocol, args, task) as agent:
                play[protocol] = max(play[protocol], _play(agent, task, samples))
    first = args.protocols[0]
    for protocol, alone in model.items():
        whole = play[protocol]
        print(
            f"{protocol:<8} {alone:7.0f} {alone / model[first]:9.1f} {whole:7.0f} "
            f"{whole / play[first]:9.1f} {simulator:16.0f}"
        )


class _Still:
    """An agent that does nothing, for the simulator's own speed."""

    token_types = ()

    def __init__(self, task: OfflineRlTask) -> None:
        self._size = task.dimensions()[1]

    def act(self, observations: Any, rewards: Any, alive: Any) -> Any:
        return np.zeros((len(observations), self._size), dtype=np.float32)


def _act(agent: Any, args: argparse.Namespace, task: OfflineRlTask) -> float:
    """Environment steps per second of processor time of an agent that acts on noise."""
    generator = np.random.default_rng(0)
    shape = (args.steps, args.batch, task.dimensions()[0])
    states = generator.standard_normal(shape).astype(np.float32)
    rewards, alive = np.ones(args.batch, np.float32), np.ones(args.batch, np.bool_)
    start = time.process_time()
    for state in states:
        agent.act(state, rewards, alive)
    steps: int = args.batch * args.steps
    return steps / (time.process_time() - start)


def _play(agent: Any, task: OfflineRlTask, samples: Any) -> float:
    """Environment steps per second of processor time of whole play."""
    start = time.process_time()
    steps = sum(len(episode.rewards) for episode in task.play(samples, agent))
    return steps / (time.process_time() - start)


@contextmanager
def _agent(protocol: str, args: argparse.Namespace, task: OfflineRlTask) -> Iterator[Any]:
    adapter = DecisionTransformerAdapter(args.model, device="cpu")
    adapter.load()
    if protocol == "window":
        tokens = 3 * adapter.control_facts.window
        yield adapter.window_agent(args.batch, tokens, target_return=task.target_return())
        return
    chosen: Any = policy(protocol)
    rules: dict[str, Any] = {"interval": args.interval}
    if protocol == "recency":
        newest = Budget(tokens=3 * adapter.control_facts.window)
        chosen = policy(protocol, budget=newest, sinks=0)
    elif protocol == "namm":  # as in pocket_control, which has windows of 20 steps
        chosen = replace(chosen, budget=Threshold(3 * adapter.control_facts.window), recents=16)
        rules |= {"storage": "per_head"}
    with attach(adapter.backbone, chosen, **rules) as memory:
        yield adapter.agent(args.batch, memory, target_return=task.target_return())


if __name__ == "__main__":
    main()
