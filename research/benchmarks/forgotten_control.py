"""Which tokens of an episode a policy evicts: by token type, by age, and by the action's quality.

    python research/benchmarks/forgotten_control.py --checkpoint provisional
    python research/benchmarks/forgotten_control.py --policy h2o_16 --budget tokens:60 \
        --model pocket_rl_walker2d --environment Walker2d-v5

Limit and protected tokens are those of ``experiment=pocket_control``. Episodes are played under the
policy. After every eviction each token that was ever seen counts as kept in part: the mean over
layers and heads. The *advantage* of a step is its return-to-go minus the mean of all episodes at
that timestep, over their standard deviation. Where the asset has its behaviour policy, the distance
of the action from the expert's is measured too. Old tokens are evicted more often whatever their
action was, so that both are compared among tokens of similar age.

Writes OUT.json and OUT.png.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from namm_mm import attach
from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.memory import Memory
from namm_mm.models.cards import BUNDLED
from namm_mm.records import Agent, TokenType
from namm_mm.tasks.base import Episode
from namm_mm.tasks.offline_rl import OfflineRlTask
from research.benchmarks.common import (
    NAMM,
    RESULTS,
    Facts,
    chosen_policy,
    kept_by_token,
    options,
    parse,
    report,
)
from research.builders.control.behaviour import BehaviourPolicy

TYPES = ("return", "state", "action")
AGES = (0, 10, 20, 40, 80, 160, 320, 1000)
"""Edges of the bins of age, in environment steps."""
THIRDS = ("worst third", "middle third", "best third")


def main() -> None:
    """Measure, print, and write the numbers and the picture."""
    parser = options(
        __doc__,
        model="pocket_rl_hopper",
        environment="Hopper-v5",
        orders=False,
        policy=NAMM,
        checkpoint="general",
        budget="threshold:60",
        recents=16,
        storage="per_head",
        interval=48,
        episodes=8,
        steps=1000,
        split="validation",
        out=RESULTS / "forgotten_control",
    )
    args = parse(parser)
    recorder, episodes = play(args)
    report(tables(recorder, episodes, args), args.out, in_words, draw)


class Recorder(Agent):
    """An agent that records what it saw and did, and what its memory kept after evictions."""

    def __init__(self, agent: Agent, memory: Memory) -> None:
        self._agent, self._memory = agent, memory
        self.states: list[Any] = []
        self.actions: list[Any] = []
        self.kept: list[tuple[int, int, Any]] = []  # row, tokens seen, (token,) fraction kept
        self._updates: dict[int, int] = {}

    @property
    def token_types(self) -> tuple[TokenType, ...]:
        """See :class:`namm_mm.records.Agent`."""
        return self._agent.token_types

    def act(self, states: Any, rewards: Any, alive: Any) -> Any:
        """Act, and record the memory of each row after an eviction."""
        actions = self._agent.act(states, rewards, alive)
        self.states.append(states)
        self.actions.append(actions)
        for row in np.flatnonzero(alive).tolist():
            use = self._memory.usage(row)
            if use.updates > self._updates.get(row, 0):
                self._updates[row] = use.updates
                kept = kept_by_token(self._memory, use.seen, row).mean(0)
                self.kept.append((row, use.seen, kept))
        return actions


def play(args: argparse.Namespace) -> tuple[Recorder, list[Episode]]:
    """Play the episodes under the policy; return the recorder, and the episodes by row."""
    task = OfflineRlTask(args.environment, orders=args.orders, max_steps=args.steps)
    samples = task.samples(args.split, args.episodes, 0)
    adapter = DecisionTransformerAdapter(args.model, device="cpu")
    adapter.load()
    chosen = chosen_policy(args.policy, args.checkpoint, args.budget)
    if chosen.name != "full":
        chosen = replace(chosen, recents=args.recents)
    with attach(adapter.backbone, chosen, interval=args.interval, storage=args.storage) as memory:
        agent = adapter.agent(len(samples), memory, target_return=task.target_return())
        recorder = Recorder(agent, memory)
        episodes = sorted(task.play(samples, recorder), key=lambda episode: episode.row)
    return recorder, episodes


def tables(recorder: Recorder, episodes: list[Episode], args: argparse.Namespace) -> Facts:
    """Return what is kept by token type and age, and by the quality of actions of similar age."""
    length = max(len(episode.rewards) for episode in episodes)
    qualities = {"advantage": advantages(episodes, length)}
    if (distance := expert_distance(recorder, args)) is not None:
        qualities["closeness to the expert's action"] = -distance[:, :length]
    columns: dict[str, list[Any]] = {"type": [], "age": [], "kept": [], "step": []}
    values: dict[str, list[Any]] = {name: [] for name in qualities}
    for row, seen, kept in recorder.kept:
        token = np.arange(seen)
        step = token // 3
        columns["type"].append(token % 3)
        columns["step"].append(step)
        columns["age"].append(step[-1] - step)
        columns["kept"].append(kept)
        for name, quality in qualities.items():
            values[name].append(quality[row, np.minimum(step, length - 1)])
    kind, age, kept, step = (np.concatenate(columns[k]) for k in ("type", "age", "kept", "step"))
    bins = np.digitize(age, AGES[1:-1])
    names = [f"{low}-{high - 1}" for low, high in pairwise(AGES)]
    scores = [episode.score.value for episode in episodes]
    return {
        "model": args.model,
        "environment": args.environment + (" with orders" if args.orders else ""),
        "policy": f"namm {args.checkpoint}" if args.policy == NAMM else args.policy,
        "budget": args.budget,
        "recents": args.recents,
        "storage": args.storage,
        "interval": args.interval,
        "split": args.split,
        "episodes": len(episodes),
        "score_mean": float(np.mean(scores)),
        "kept": float(kept.mean()),
        "by_role": {name: float(kept[kind == number].mean()) for number, name in enumerate(TYPES)},
        "by_age": {name: _mean(kept[bins == number]) for number, name in enumerate(names)},
        "by_role_and_age": {
            name: {
                ages: _mean(kept[(bins == number) & (kind == which)])
                for number, ages in enumerate(names)
            }
            for which, name in enumerate(TYPES)
        },
        "first_four_steps": _mean(kept[(step < 4) & (age >= 20)]),
        "by_quality": {
            name: _thirds(np.concatenate(values[name]), kept, bins, kind) for name in qualities
        },
    }


def advantages(episodes: list[Episode], length: int) -> Any:
    """Return (row, step): returns-to-go minus their mean at the step, over their deviation."""
    to_go = np.full((len(episodes), length), np.nan)
    for episode in episodes:
        rewards = np.asarray(episode.rewards, dtype=np.float64)
        to_go[episode.row, : len(rewards)] = np.cumsum(rewards[::-1])[::-1]
    mean, spread = np.nanmean(to_go, axis=0), np.nanstd(to_go, axis=0)
    return (to_go - mean) / np.maximum(spread, 1e-9)


def expert_distance(recorder: Recorder, args: argparse.Namespace) -> Any:
    """Return (row, step): distance of each action from the bundled expert's; None without one."""
    path = BUNDLED / args.model / "expert.npz"
    if not path.is_file() or args.orders:  # that expert sees the current order
        return None
    states, actions = np.stack(recorder.states, 1), np.stack(recorder.actions, 1)
    expert = BehaviourPolicy.load(path)
    flat = expert.act(states.reshape(-1, states.shape[-1]), 0.0, np.random.default_rng(0))
    return np.linalg.norm(np.clip(actions, -1, 1) - flat.reshape(actions.shape), axis=-1)


def _mean(values: Any) -> float | None:
    return float(values.mean()) if len(values) else None


def _thirds(quality: Any, kept: Any, bins: Any, kind: Any) -> dict[str, dict[str, float]]:
    """Return what is kept of each third, over that of all tokens of the same type and age."""
    total = {name: np.zeros(2) for name in THIRDS}
    for number in np.unique(bins):
        for which in range(len(TYPES)):
            here = (bins == number) & (kind == which) & np.isfinite(quality)
            if here.sum() < 30 or kept[here].mean() == 0 or np.ptp(quality[here]) == 0:
                continue
            third_of = np.digitize(quality[here], np.quantile(quality[here], (1 / 3, 2 / 3)))
            for third, name in enumerate(THIRDS):
                chosen = kept[here][third_of == third]
                total[name] += chosen.sum(), kept[here].mean() * len(chosen)
    return {
        name: {"kept_over_expected": float(own / expected) if expected else float("nan")}
        for name, (own, expected) in total.items()
    }


def in_words(found: Facts) -> str:
    """Return the numbers as a table."""
    lines = [
        f"{found['policy']} on {found['model']}, {found['environment']}, interval "
        f"{found['interval']}, {found['episodes']} {found['split']} episodes, score "
        f"{found['score_mean']:.1f}",
        "",
        f"kept of all tokens seen {found['kept']:.3f}; of those of the first four steps, once 20 "
        f"steps old, {found['first_four_steps'] or 0:.3f}",
        "age in steps " + "".join(f"{name:>9}" for name in found["by_age"]),
    ]
    for kind in TYPES:
        row = found["by_role_and_age"][kind].values()
        cells = "".join("        -" if v is None else f"{v:9.3f}" for v in row)
        lines.append(f"{kind:<13}{cells}")
    for name, thirds in found["by_quality"].items():
        shown = ", ".join(f"{k} {v['kept_over_expected']:.2f}" for k, v in thirds.items())
        lines.append(f"kept over what age and token type explain, by {name}: {shown}")
    return "\n".join(lines)


def draw(found: Facts, path: Path) -> None:
    """Draw what is kept by token type and age, and by the quality of the action."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for kind, color in zip(TYPES, ("#4c78a8", "#f58518", "#54a24b"), strict=True):
        row = found["by_role_and_age"][kind]
        shown = {name: value for name, value in row.items() if value is not None}
        left.plot(list(shown), list(shown.values()), marker="o", label=kind, color=color)
    left.set(xlabel="age (steps)", ylabel="kept", ylim=(0, 1.02), title=found["policy"])
    left.legend(frameon=False)
    for offset, (name, thirds) in enumerate(found["by_quality"].items()):
        places = np.arange(len(THIRDS)) + 0.4 * offset
        heights = [thirds[third]["kept_over_expected"] for third in THIRDS]
        right.bar(places, heights, width=0.38, label=name)
    right.set_xticks(np.arange(len(THIRDS)) + 0.2, [third.split()[0] for third in THIRDS])
    right.axhline(1.0, color="black", linewidth=0.8)
    right.set(ylabel="kept, over expected at that age", title=found["environment"])
    right.set_ylim(0, 1.45)  # room for the legend
    right.legend(frameon=False, fontsize="small", loc="upper right")
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
