"""``namm-mm build pocket-rl``: behaviour policies, data and Decision Transformers from nothing.

Each step leaves its result in the work folder and is skipped when it is there, so that an
interrupted build goes on where it stopped.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from namm_mm.errors import RunError, UsageError, message
from namm_mm.tasks.offline_rl.data import (
    KEYS,
    Trajectories,
    join,
    read_dataset,
    read_facts,
    write_dataset,
)
from namm_mm.tasks.offline_rl.environments import body, visible
from namm_mm.tasks.offline_rl.orders import orders_of, shown_once
from namm_mm.tasks.offline_rl.references import ORDERS_RETURNS, REFERENCE_RETURNS
from research.builders.pocket_rl_data import (
    BehaviourPolicy,
    Reminded,
    evaluate,
    rollout,
    train_policies,
)
from research.builders.pocket_rl_models import MODELS, PocketModel
from research.builders.pocket_rl_train import checkpoint_folder, select, train

LABEL = "generated locally with PPO in the named environment; not D4RL"
SELECTION_SEEDS = (1, 2, 3)
"""Environment seeds by which behaviour policies are ranked; far from those of any split."""


def build(
    asset: str = "pocket_rl_hopper",
    *,
    out: Path | None = None,
    work: Path = Path("runs/build/pocket-rl"),
    episodes: int = 8,
    say: Callable[[str], None] = print,
) -> Path:
    """Make one pocket model again, and return the folder of the asset.

    Parameters
    ----------
    asset
        A name of :data:`MODELS`.
    out
        The asset's folder; None replaces the bundled one.
    work
        Policies, data and checkpoints; what is there is used again.
    episodes
        Validation episodes by which each checkpoint is judged.
    say
        Told one line per step.

    Raises
    ------
    UsageError
        The name is unknown.
    RunError
        stable-baselines3 is missing, or no policy learned to act.
    """
    from namm_mm.models.cards import BUNDLED

    if asset not in MODELS:
        raise UsageError(
            message("unknown pocket model", given=asset, expected="a pocket model", valid=MODELS)
        )
    model = MODELS[asset]
    return build_model(model, out=out or BUNDLED / asset, work=work, episodes=episodes, say=say)


def build_model(
    model: PocketModel,
    *,
    out: Path,
    work: Path,
    episodes: int = 8,
    say: Callable[[str], None] = print,
) -> Path:
    """Run all steps of `model`; see :func:`build`."""
    from namm_mm.tasks.offline_rl.task import OfflineRlTask

    medium, expert, snapshots = (reminded if model.policies_of else behaviour)(model, work, say)
    parts = datasets(model, work, medium, expert, snapshots, say)
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
    best = choose(scores, earliest=bool(model.earliest_of))
    return _ship(
        model,
        checkpoint_folder(folder, best),
        work / model.place,
        out,
        parts,
        scores,
        best,
        episodes,
        task.target_return(),
    )


def choose(scores: dict[int, float], *, earliest: bool) -> int:
    """Update of the checkpoint with the highest score, or the earliest within a point of it."""
    best = max(scores, key=lambda update: scores[update])
    if not earliest:
        return best
    return min(update for update, score in scores.items() if score >= scores[best] - 1.0)


def behaviour(
    model: PocketModel, work: Path, say: Callable[[str], None]
) -> tuple[BehaviourPolicy, BehaviourPolicy, list[BehaviourPolicy]]:
    """Train PPO and name its snapshots: medium, expert, and all up to the expert.

    The expert is the best snapshot; the medium one is nearest to a third of its return, as D4RL
    defines it.
    """
    folder = work / model.place
    policies = train_policies(
        model.environment,
        folder,
        steps=model.policy_steps,
        every=model.snapshot,
        settings=model.ppo,
        orders=model.orders,
        say=say,
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
    say(f"{model.place}: medium {returns[middle]:.0f}, expert {returns[best]:.0f}")
    policies[middle].save(folder / "medium.npz")
    policies[best].save(folder / "expert.npz")
    return policies[middle], policies[best], policies[: best + 1]


def reminded(
    model: PocketModel, work: Path, say: Callable[[str], None]
) -> tuple[Reminded, Reminded, list[Reminded]]:
    """Let the bundled policies of another model act, told how the motors turn."""
    from namm_mm.models.cards import BUNDLED

    (work / model.place).mkdir(parents=True, exist_ok=True)
    medium, expert = (
        Reminded(BehaviourPolicy.load(BUNDLED / model.policies_of / f"{quality}.npz"))
        for quality in ("medium", "expert")
    )
    say(f"{model.place}: policies of {model.policies_of}")
    return medium, expert, [medium, expert]


def datasets(
    model: PocketModel,
    work: Path,
    medium: BehaviourPolicy | Reminded,
    expert: BehaviourPolicy | Reminded,
    snapshots: Sequence[BehaviourPolicy | Reminded],
    say: Callable[[str], None],
) -> dict[str, Trajectories]:
    """Collect medium, expert and replay data, or read what an earlier build left."""
    mixture = model.mixture
    share = mixture.replay // len(snapshots)
    recipes = {
        "medium": [(medium, mixture.medium, mixture.medium_noise)],
        "expert": [(expert, mixture.expert, mixture.expert_noise)],
        "replay": [(policy, share, 1.0) for policy in snapshots],
    }
    found = {}
    for number, (name, recipe) in enumerate(recipes.items()):
        path = work / model.place / f"{name}.hdf5"
        if not path.is_file():
            parts = [
                rollout(
                    policy,
                    model.environment,
                    transitions=transitions,
                    noise=noise,
                    seed=100_000 * (number + 1) + 10_000 * index,
                    orders=model.orders,
                )
                for index, (policy, transitions, noise) in enumerate(recipe)
                if transitions
            ]
            facts: dict[str, Any] = {
                "environment": model.environment,
                "quality": name,
                "origin": LABEL,
                "policy_steps": [policy.steps for policy, _, _ in recipe],
                "noise": recipe[0][2],
            }
            data = join(parts)
            if model.orders:  # what the policy was reminded of is for the agent to remember
                facts["orders"] = "shown once, early in each episode"
                data = replace(data, observations=shown_once(data.observations, data.bounds))
            write_dataset(path, data, facts)
        found[name] = read_dataset(path)
        say(
            f"{path.name}: {len(found[name])} transitions, {len(found[name].bounds)} episodes, "
            f"return {found[name].returns.mean():.0f} ± {found[name].returns.std():.0f}"
        )
    return found


def _ship(
    model: PocketModel,
    checkpoint: Path,
    data_folder: Path,
    out: Path,
    parts: dict[str, Trajectories],
    scores: dict[int, float],
    best: int,
    episodes: int,
    target_return: float,
) -> Path:
    """Put the chosen checkpoint, the policies and a slice of the data into `out`, with a card."""
    from namm_mm.models.cards import write_card

    out.mkdir(parents=True, exist_ok=True)
    for file in checkpoint.iterdir():
        shutil.copyfile(file, out / file.name)
    if model.first:
        for quality in ("medium", "expert"):
            shutil.copyfile(data_folder / f"{quality}.npz", out / f"{quality}.npz")
            data = parts[quality]
            whole = next((end for _, end in data.bounds if end >= model.slice), len(data))
            write_dataset(
                out / f"{quality}_slice.hdf5",
                Trajectories(*(getattr(data, key)[:whole] for key in KEYS)),
                {**read_facts(data_folder / f"{quality}.hdf5"), "slice": "the first episodes"},
            )
    data_facts = {
        name: {
            "transitions": len(data),
            "episodes": len(data.bounds),
            "return_mean": round(float(data.returns.mean()), 1),
            "return_std": round(float(data.returns.std()), 1),
        }
        for name, data in parts.items()
    }
    hidden = ", velocities hidden" if model.hidden_velocities else ""
    hidden = ", orders shown once" if model.orders else hidden
    write_card(
        out,
        made_by=model.command,
        about=f"Decision Transformer for {model.environment}{hidden}, "
        f"{model.training.window} steps at once",
        licence="Apache-2.0",
        kind="pocket model, trained on locally generated data",
        model_class="DecisionTransformerModel",
        environment=model.environment,
        hidden_velocities=model.hidden_velocities,
        orders=model.orders,
        target_return=target_return,
        behaviour=(
            f"the policies bundled with {model.policies_of}, told how the motors turn"
            if model.policies_of
            else {"algorithm": "PPO", "steps": model.policy_steps, **asdict(model.ppo)}
        ),
        data={"origin": LABEL, "mixture": asdict(model.mixture), "parts": data_facts},
        training=asdict(model.training),
        selection={
            "rule": ("earliest within a point of the highest" if model.earliest_of else "highest")
            + " mean score over validation episodes, "
            + ("full cache" if model.history == "cache" else "window re-encoded at every step"),
            "episodes": episodes,
            "seeds": "validation split of the task offline_rl; reported seeds are the test split",
            "scores": {str(update): round(score, 2) for update, score in scores.items()},
            "chosen_update": best,
            "note": "one training seed; scores of neighbouring checkpoints differ widely",
        },
        versions={
            "python": platform.python_version(),
            **{
                name: version(name)
                for name in ("torch", "transformers", "gymnasium", "mujoco", "stable-baselines3")
            },
        },
    )
    return out
