"""The ways to remember in control that are compared: a window, a full cache, recency, the NAMM."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from namm_mm import attach, policy
from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.adapters.control.agents import TOKENS_PER_STEP
from namm_mm.memory import Memory
from namm_mm.policies import Budget, Policy
from namm_mm.records import Agent
from research.benchmarks.common import NAMM

PROTOCOLS = ("window", "full", "recency", NAMM)


@contextmanager
def remembering(
    protocol: str, args: argparse.Namespace, namm: Policy
) -> Iterator[tuple[DecisionTransformerAdapter, Memory | None]]:
    """Load the model, and attach the memory of a protocol.

    Parameters
    ----------
    protocol
        ``window`` re-encodes the last steps; ``full`` evicts nothing; ``recency`` keeps as many
        newest tokens as the window has, ``recency:62`` so many; ``namm`` keeps what `namm` keeps.
    args
        ``model``, ``interval`` and ``storage``, which is that of the NAMM.

    Yields
    ------
    tuple
        The loaded adapter, and the memory; None for a window.
    """
    name, _, tokens = protocol.partition(":")
    adapter = DecisionTransformerAdapter(args.model, device="cpu")
    adapter.load()
    if name == "window":
        yield adapter, None
        return
    chosen, storage = policy(name), "shared"
    if name == "recency":
        newest = Budget(tokens=int(tokens or window_tokens(adapter)))
        chosen = policy(name, budget=newest, sinks=0)
    elif name == NAMM:
        chosen, storage = namm, args.storage
    with attach(adapter.backbone, chosen, interval=args.interval, storage=storage) as memory:
        yield adapter, memory


def window_tokens(adapter: DecisionTransformerAdapter) -> int:
    """Return the tokens of the window that the model was trained on."""
    return TOKENS_PER_STEP * adapter.control_facts.window


def make_agent(
    adapter: DecisionTransformerAdapter, memory: Memory | None, count: int, target_return: float
) -> Agent:
    """Return the agent of `count` environments, as :func:`remembering` prepared it."""
    if memory is not None:
        return adapter.agent(count, memory, target_return=target_return)
    return adapter.window_agent(count, window_tokens(adapter), target_return=target_return)
