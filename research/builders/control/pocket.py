"""``namm-mm build pocket-rl``: behaviour policies, data and Decision Transformers from nothing.

Each step leaves its result in the work folder and is skipped when the result is there: an
interrupted build continues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from namm_mm.commands.build import Builder
from namm_mm.errors import RunError, UsageError, message
from namm_mm.models.cards import BUNDLED
from namm_mm.tasks.offline_rl.data import Trajectories, join, read_dataset, write_dataset
from namm_mm.tasks.offline_rl.environments import body, visible
from namm_mm.tasks.offline_rl.orders import orders_of, shown_once
from namm_mm.tasks.offline_rl.references import ORDERS_RETURNS, REFERENCE_RETURNS
from namm_mm.tasks.offline_rl.task import OfflineRlTask
from research.builders.control.behaviour import (
    BehaviourPolicy,
    Policy,
    Reminded,
    evaluate,
    rollout,
)
from research.builders.control.pocket_asset import LABEL, Chosen, write_asset
from research.builders.control.pocket_models import MODELS, PocketModel
from research.builders.control.ppo import PolicyTraining, train_policies
from research.builders.control.selection import best_update, select
from research.builders.control.training import checkpoint_folder, train

SELECTION_SEEDS = (1, 2, 3)
"""Environment seeds by which behaviour policies are ranked; far from those of any split."""


@dataclass(frozen=True)
class BuildPocketRl(Builder):
    """Makes one pocket model again.

    Attributes
    ----------
    asset
        A name of :data:`~research.builders.control.pocket_models.MODELS`.
    out
        The folder of the asset; None replaces the bundled one.
    work
        Folder of policies, data and checkpoints; what is there is used again.
    episodes
        Validation episodes by which each checkpoint is judged.
    """

    asset: str = "pocket_rl_hopper"
    out: Path | None = None
    work: Path = Path("runs/build/pocket-rl")
    episodes: int = 8

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the folder of the asset.

        Raises
        ------
        UsageError
            The name is unknown.
        RunError
            stable-baselines3 is missing, or no policy learned to act.
        """
        if self.asset not in MODELS:
            raise UsageError(
                message(
                    "unknown pocket model",
                    given=self.asset,
                    expected="a pocket model",
                    valid=MODELS,
                )
            )
        out = self.out or BUNDLED / self.asset
        return build_model(
            MODELS[self.asset], out=out, work=self.work, episodes=self.episodes, say=say
        )


def build_model(
    model: PocketModel,
    *,
    out: Path,
    work: Path,
    episodes: int = 8,
    say: Callable[[str], None] = print,
) -> Path:
    """Run all steps of `model`; see :class:`BuildPocketRl`."""
    policies = (borrowed_policies if model.policies_of else trained_policies)(model, work, say)
    parts = collect_data(model, work, policies, say)
    data = join(list(parts.values()))
    hidden = None
    if model.hidden_velocities:
        seen = visible(data.observations, model.environment, hidden_velocities=True)
        hidden = data.observations[:, seen.shape[1] :]
        data = replace(data, observations=seen)
    if model.orders:
        hidden = orders_of(data.observations, data.bounds)
    folder = work / (model.earliest_of or model.asset)
    updates = train(
        data,
        folder,
        model.training,
        hidden=hidden,
        on_checkpoint=lambda update, loss: say(f"{model.asset}: update {update}, loss {loss:.4f}"),
    )
    task = OfflineRlTask(
        model.environment, hidden_velocities=model.hidden_velocities, orders=model.orders
    )
    scores = select(
        folder,
        updates,
        task,
        episodes=episodes,
        history=model.history,
        on_score=lambda update, score: say(f"{model.asset}: update {update} scores {score:.1f}"),
    )
    update = best_update(scores, earliest=bool(model.earliest_of))
    chosen = Chosen(update, checkpoint_folder(folder, update), scores, episodes)
    return write_asset(out, model, chosen, work / model.data_folder, parts, task.target_return())


@dataclass(frozen=True)
class Policies:
    """The behaviour policies of a model.

    Attributes
    ----------
    medium, expert
        The policies of the medium and the expert data.
    snapshots
        The policies of the replay data.
    """

    medium: Policy
    expert: Policy
    snapshots: Sequence[Policy]


def trained_policies(model: PocketModel, work: Path, say: Callable[[str], None]) -> Policies:
    """Train PPO, and return its snapshots: medium, expert, and all up to the expert.

    The expert is the best snapshot. The medium policy is the one whose return is nearest to a third
    of the expert's, as in D4RL.
    """
    folder = work / model.data_folder
    policies = train_policies(
        PolicyTraining(
            model.environment,
            folder,
            steps=model.policy_steps,
            every=model.snapshot,
            settings=model.ppo,
            orders=model.orders,
        ),
        say,
    )
    returns = [
        evaluate(policy, model.environment, seeds=SELECTION_SEEDS, orders=model.orders)
        for policy in policies
    ]
    best = int(np.argmax(returns))
    scale = ORDERS_RETURNS if model.orders else REFERENCE_RETURNS
    low, high = scale[body(model.environment)]
    score = 100.0 * (returns[best] - low) / (high - low)
    if score < 10.0:
        raise RunError(
            f"PPO did not learn {model.environment}: its best return is {returns[best]:.0f} "
            f"(score {score:.0f}). Train longer or remove {folder} and use another seed."
        )
    earlier = returns[: best + 1]
    middle = int(np.argmin([abs(value - returns[best] / 3) for value in earlier]))
    say(f"{model.data_folder}: medium {returns[middle]:.0f}, expert {returns[best]:.0f}")
    policies[middle].save(folder / "medium.npz")
    policies[best].save(folder / "expert.npz")
    return Policies(policies[middle], policies[best], policies[: best + 1])


def borrowed_policies(model: PocketModel, work: Path, say: Callable[[str], None]) -> Policies:
    """Return the bundled policies of another model.

    They are told the sign of their motors, unless they were trained with orders.
    """
    (work / model.data_folder).mkdir(parents=True, exist_ok=True)
    found = (
        BehaviourPolicy.load(BUNDLED / model.policies_of / f"{quality}.npz")
        for quality in ("medium", "expert")
    )
    medium, expert = (
        policy if model.policies_were_reminded else Reminded(policy) for policy in found
    )
    say(f"{model.data_folder}: policies of {model.policies_of}")
    return Policies(medium, expert, [medium, expert])


def collect_data(
    model: PocketModel, work: Path, policies: Policies, say: Callable[[str], None]
) -> dict[str, Trajectories]:
    """Return medium, expert and replay data: new data, or that of an earlier build."""
    mixture = model.mixture
    share = mixture.replay // len(policies.snapshots)
    sources = {
        "medium": [(policies.medium, mixture.medium, mixture.medium_noise)],
        "expert": [(policies.expert, mixture.expert, mixture.expert_noise)],
        "replay": [(policy, share, 1.0) for policy in policies.snapshots],
    }
    found = {}
    for number, (name, source) in enumerate(sources.items()):
        path = work / model.data_folder / f"{name}.hdf5"
        if not path.is_file():
            _play(model, path, source, seed=100_000 * (number + 1))
        found[name] = read_dataset(path)
        say(
            f"{path.name}: {len(found[name])} transitions, {len(found[name].bounds)} episodes, "
            f"return {found[name].returns.mean():.0f} ± {found[name].returns.std():.0f}"
        )
    return found


def _play(
    model: PocketModel, path: Path, source: Sequence[tuple[Policy, int, float]], *, seed: int
) -> None:
    """Write the episodes of some policies; `source` tells their transitions and their noise."""
    parts = [
        rollout(
            policy,
            model.environment,
            transitions=transitions,
            noise=noise,
            seed=seed + 10_000 * index,
            orders=model.orders,
        )
        for index, (policy, transitions, noise) in enumerate(source)
        if transitions
    ]
    facts: dict[str, Any] = {
        "environment": model.environment,
        "quality": path.stem,
        "origin": LABEL,
        "policy_steps": [policy.steps for policy, _, _ in source],
        "noise": source[0][2],
    }
    data = join(parts)
    if model.orders:  # the policy is reminded at every step, the agent has to remember
        facts["orders"] = "shown once, early in each episode"
        data = replace(data, observations=shown_once(data.observations, data.bounds))
    write_dataset(path, data, facts)
