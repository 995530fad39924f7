"""What a policy forgets in control: by role, by age, and by how good the action was.

    python research/benchmarks/forgotten_control.py --checkpoint provisional
    python research/benchmarks/forgotten_control.py --policy h2o --budget tokens:60 \
        --model pocket_rl_walker2d --environment Walker2d-v5

The limit and the protected tokens are those of `experiment=pocket_control`. Episodes are played
under the policy. After every eviction, each token that was ever seen is noted as kept (the mean
over layers and heads) or forgotten. A step's *advantage* is its return still to come, minus the
mean of all episodes at that time, over their deviation; where the asset brings its behaviour
policy, the *distance* of the action from the expert's is noted too. Old tokens are forgotten more
often whatever their action was, so both are compared among tokens of like age.

Writes OUT.json, every number below, and OUT.png.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from namm_mm import attach, policy
from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.models.cards import BUNDLED
from namm_mm.policies import budgets
from namm_mm.records import Agent
from namm_mm.tasks.offline_rl import OfflineRlTask
from research.builders.pocket_rl_data import BehaviourPolicy

ROLES = ("return", "state", "action")
AGES = (0, 10, 20, 40, 80, 160, 320, 1000)
"""Edges of the bins of age, in environment steps."""
THIRDS = ("worst third", "middle third", "best third")


def main() -> None:
    """Play, count, print, and write the numbers and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket_rl_hopper")
    parser.add_argument("--environment", default="Hopper-v5")
    parser.add_argument("--orders", action="store_true")
    parser.add_argument("--policy", default="namm")
    parser.add_argument("--checkpoint", default="general", help="of the NAMM")
    parser.add_argument("--budget", default="threshold:60", help="tokens:N for a fixed one")
    parser.add_argument("--recents", type=int, default=16, help="newest tokens that always stay")
    parser.add_argument("--storage", default="per_head", help="or shared")
    parser.add_argument("--interval", type=int, default=48)
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--out", type=Path, default=Path("research/results/forgotten_control"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    watched, episodes = play(args)
    found = tables(watched, episodes, args)
    print(words(found))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, args.out.with_suffix(".png"))


class Watched(Agent):
    """An agent that remembers what it saw and did, and what its memory held after evictions."""

    def __init__(self, agent: Any, memory: Any, layers: int) -> None:
        self._agent, self._memory, self._layers = agent, memory, layers
        self.states: list[Any] = []
        self.actions: list[Any] = []
        self.alive: list[Any] = []
        self.held: list[tuple[int, int, Any]] = []  # row, tokens seen, (token,) part that is kept
        self._updates: dict[int, int] = {}

    @property
    def token_types(self) -> Any:
        """See :class:`namm_mm.records.Agent`."""
        return self._agent.token_types

    def act(self, states: Any, rewards: Any, alive: Any) -> Any:
        """Act, and look into the memory of each row that was just cut."""
        actions = self._agent.act(states, rewards, alive)
        self.states.append(states)
        self.actions.append(actions)
        self.alive.append(alive)
        for row in np.flatnonzero(alive).tolist():
            use = self._memory.usage(row)
            if use.updates > self._updates.get(row, 0):
                self._updates[row] = use.updates
                part = np.zeros(use.seen)
                for layer in range(self._layers):
                    heads = self._memory.kept(layer, row)
                    for kept in heads:
                        part[kept.numpy()] += 1.0 / (len(heads) * self._layers)
                self.held.append((row, use.seen, part))
        return actions


def play(args: argparse.Namespace) -> tuple[Watched, list[Any]]:
    """Play the episodes under the policy; the watched agent, and the episodes in order of rows."""
    task = OfflineRlTask(args.environment, orders=args.orders, max_steps=args.steps)
    samples = task.samples(args.split, args.episodes, 0)
    adapter = DecisionTransformerAdapter(args.model, device="cpu")
    adapter.load()
    options: dict[str, Any] = {"checkpoint": args.checkpoint} if args.policy == "namm" else {}
    chosen: Any = policy(args.policy, budget=budgets.parse(args.budget), **options)
    if hasattr(chosen, "recents"):
        chosen = replace(chosen, recents=args.recents)
    rules: dict[str, Any] = {"interval": args.interval, "storage": args.storage}
    with attach(adapter.backbone, chosen, **rules) as memory:
        agent = adapter.agent(len(samples), memory, target_return=task.target_return())
        config: Any = adapter.model.config
        watched = Watched(agent, memory, config.n_layer)
        episodes = sorted(task.play(samples, watched), key=lambda episode: episode.row)
    return watched, episodes


def tables(watched: Watched, episodes: list[Any], args: argparse.Namespace) -> dict[str, Any]:
    """Kept parts by role and age, and by the quality of actions among tokens of like age."""
    length = max(len(episode.rewards) for episode in episodes)
    to_go = np.full((len(episodes), length), np.nan)
    for episode in episodes:
        rewards = np.asarray(episode.rewards, dtype=np.float64)
        to_go[episode.row, : len(rewards)] = np.cumsum(rewards[::-1])[::-1]
    mean, spread = np.nanmean(to_go, axis=0), np.nanstd(to_go, axis=0)
    qualities = {"advantage": (to_go - mean) / np.maximum(spread, 1e-9)}
    if (expert := expert_distance(watched, args)) is not None:
        qualities["closeness to the expert's action"] = -expert[:, :length]
    columns: dict[str, list[Any]] = {"role": [], "age": [], "part": [], "step": []}
    values: dict[str, list[Any]] = {name: [] for name in qualities}
    for row, seen, part in watched.held:
        token = np.arange(seen)
        step = token // 3
        columns["role"].append(token % 3)
        columns["step"].append(step)
        columns["age"].append(step[-1] - step)
        columns["part"].append(part)
        for name, quality in qualities.items():
            values[name].append(quality[row, np.minimum(step, length - 1)])
    role, age, part, step = (np.concatenate(columns[k]) for k in ("role", "age", "part", "step"))
    bins = np.digitize(age, AGES[1:-1])
    names = [f"{low}-{high - 1}" for low, high in pairwise(AGES)]
    scores = [episode.score.value for episode in episodes]
    return {
        "model": args.model,
        "environment": args.environment + (" with orders" if args.orders else ""),
        "policy": f"namm {args.checkpoint}" if args.policy == "namm" else args.policy,
        "budget": args.budget,
        "recents": args.recents,
        "storage": args.storage,
        "interval": args.interval,
        "split": args.split,
        "episodes": len(episodes),
        "score_mean": float(np.mean(scores)),
        "kept": float(part.mean()),
        "by_role": {name: float(part[role == number].mean()) for number, name in enumerate(ROLES)},
        "by_age": {name: _mean(part[bins == number]) for number, name in enumerate(names)},
        "by_role_and_age": {
            kind: {
                name: _mean(part[(bins == number) & (role == which)])
                for number, name in enumerate(names)
            }
            for which, kind in enumerate(ROLES)
        },
        "first_four_steps": _mean(part[(step < 4) & (age >= 20)]),
        "by_quality": {
            name: _thirds(np.concatenate(values[name]), part, bins, role) for name in qualities
        },
    }


def expert_distance(watched: Watched, args: argparse.Namespace) -> Any:
    """(row, step) distance of each action from the bundled expert's in the same state, or None."""
    path = BUNDLED / args.model / "expert.npz"
    if not path.is_file() or args.orders:  # that expert sees the order of the moment
        return None
    states, actions = np.stack(watched.states, 1), np.stack(watched.actions, 1)
    expert = BehaviourPolicy.load(path)
    flat = expert.act(states.reshape(-1, states.shape[-1]), 0.0, np.random.default_rng(0))
    return np.linalg.norm(np.clip(actions, -1, 1) - flat.reshape(actions.shape), axis=-1)


def _mean(values: Any) -> float | None:
    return float(values.mean()) if len(values) else None


def _thirds(quality: Any, part: Any, bins: Any, role: Any) -> dict[str, dict[str, float]]:
    """Kept part of each third over that of all tokens of the same role and age: 1 is no matter."""
    total = {name: np.zeros(2) for name in THIRDS}
    for number in np.unique(bins):
        for kind in range(len(ROLES)):
            here = (bins == number) & (role == kind) & np.isfinite(quality)
            if here.sum() < 30 or part[here].mean() == 0 or np.ptp(quality[here]) == 0:
                continue
            which = np.digitize(quality[here], np.quantile(quality[here], (1 / 3, 2 / 3)))
            for third, name in enumerate(THIRDS):
                chosen = part[here][which == third]
                total[name] += chosen.sum(), part[here].mean() * len(chosen)
    return {
        name: {"kept_over_expected": float(kept / expected) if expected else float("nan")}
        for name, (kept, expected) in total.items()
    }


def words(found: dict[str, Any]) -> str:
    """The numbers as a table."""
    lines = [
        f"{found['policy']} on {found['model']}, {found['environment']}, interval "
        f"{found['interval']}, {found['episodes']} {found['split']} episodes, score "
        f"{found['score_mean']:.1f}",
        "",
        f"kept of all tokens seen {found['kept']:.3f}; of those of the first four steps, once 20 "
        f"steps old, {found['first_four_steps'] or 0:.3f}",
        "age in steps " + "".join(f"{name:>9}" for name in found["by_age"]),
    ]
    for kind in ROLES:
        row = found["by_role_and_age"][kind].values()
        cells = "".join("        -" if v is None else f"{v:9.3f}" for v in row)
        lines.append(f"{kind:<13}{cells}")
    for name, thirds in found["by_quality"].items():
        shown = ", ".join(f"{k} {v['kept_over_expected']:.2f}" for k, v in thirds.items())
        lines.append(f"kept over what its age and role explain, by {name}: {shown}")
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Kept parts by role and age, and by the quality of the action."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for kind, color in zip(ROLES, ("#4c78a8", "#f58518", "#54a24b"), strict=True):
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
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
