"""Environment steps per second of the ways to remember in control, at one batch size.

    python research/benchmarks/control_speed.py
    python research/benchmarks/control_speed.py --model pocket_rl_halfcheetah_orders \
        --environment HalfCheetah-v5 --orders

``model`` is the time of the agent alone, on noise; ``whole`` that of play with the simulator, whose
own speed is in the last column: no agent can be faster. Steps are per second of processor time, the
best of several rounds in which the protocols alternate, so that other work on the machine counts
little. ``window`` re-encodes its steps at every step; the others pass each token once through a
preallocated cache.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from namm_mm import policy
from namm_mm.policies import Threshold
from namm_mm.records import Agent, Sample, TokenType
from namm_mm.runs.provenance import device_name
from namm_mm.tasks.offline_rl import OfflineRlTask
from research.benchmarks.common import NAMM, options, parse
from research.benchmarks.control_memory import PROTOCOLS, make_agent, remembering

LIMIT = 60
"""Tokens of the NAMM, as in ``experiment=pocket_control``, where windows have 20 steps."""


def main() -> None:
    """Time each protocol and print one line for it."""
    parser = options(
        __doc__,
        model="pocket_rl_hopper",
        environment="Hopper-v5",
        orders=False,
        batch=32,
        steps=200,
        interval=48,
        storage="per_head",
        rounds=3,
        protocols=PROTOCOLS,
    )
    args = parse(parser)
    task = OfflineRlTask(args.environment, max_steps=args.steps, orders=args.orders)
    samples = task.samples("validation", args.batch, 0)
    print(
        f"{args.model} in {task.family}, batch {args.batch}, {args.steps} steps, "
        f"interval {args.interval}\n{device_name('cpu')}, 1 of {os.cpu_count()} cores, torch "
        f"{torch.__version__}; steps per second of processor time, best of {args.rounds} rounds\n"
    )
    print("protocol   model  x window   whole  x window  simulator alone")
    simulator = 0.0
    model, whole = (dict.fromkeys(args.protocols, 0.0) for _ in range(2))
    for _ in range(args.rounds):
        simulator = max(simulator, time_play(Idle(task), task, samples))
        for protocol in args.protocols:
            with made_agent(protocol, args, task) as agent:
                model[protocol] = max(model[protocol], time_actions(agent, args, task))
            with made_agent(protocol, args, task) as agent:
                whole[protocol] = max(whole[protocol], time_play(agent, task, samples))
    first = args.protocols[0]
    for protocol, alone in model.items():
        print(
            f"{protocol:<8} {alone:7.0f} {alone / model[first]:9.1f} {whole[protocol]:7.0f} "
            f"{whole[protocol] / whole[first]:9.1f} {simulator:16.0f}"
        )


class Idle(Agent):
    """An agent that does nothing, to time the simulator."""

    def __init__(self, task: OfflineRlTask) -> None:
        self._size = task.dimensions()[1]

    @property
    def token_types(self) -> tuple[TokenType, ...]:
        """It has no tokens."""
        return ()

    def act(self, observations: Any, rewards: Any, alive: Any) -> Any:
        """Return zeros."""
        return np.zeros((len(observations), self._size), dtype=np.float32)


def time_actions(agent: Agent, args: argparse.Namespace, task: OfflineRlTask) -> float:
    """Return the steps per second of processor time of an agent that acts on noise."""
    generator = np.random.default_rng(0)
    shape = (args.steps, args.batch, task.dimensions()[0])
    states = generator.standard_normal(shape).astype(np.float32)
    rewards, alive = np.ones(args.batch, np.float32), np.ones(args.batch, np.bool_)
    start = time.process_time()
    for state in states:
        agent.act(state, rewards, alive)
    steps: int = args.batch * args.steps
    return steps / (time.process_time() - start)


def time_play(agent: Agent, task: OfflineRlTask, samples: Sequence[Sample]) -> float:
    """Return the environment steps per second of processor time of whole play."""
    start = time.process_time()
    steps = sum(len(episode.rewards) for episode in task.play(samples, agent))
    return steps / (time.process_time() - start)


@contextmanager
def made_agent(protocol: str, args: argparse.Namespace, task: OfflineRlTask) -> Iterator[Agent]:
    """Make the agent of a protocol."""
    namm = replace(policy(NAMM), budget=Threshold(LIMIT), recents=16)
    with remembering(protocol, args, namm) as (adapter, memory):
        yield make_agent(adapter, memory, args.batch, task.target_return())


if __name__ == "__main__":
    main()
