"""Train behaviour policies with PPO, in minutes.

A snapshot is kept at regular steps. The best one is called *expert*, the one nearest to a third of
its return *medium*, as D4RL does with SAC.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.errors import RunError
from namm_mm.tasks.offline_rl.environments import make_environment
from research.builders.control.behaviour import BehaviourPolicy, evaluate

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = (1, 2, 3)
"""Environment seeds of the scores that are told during training; far from those of any split."""


@dataclass(frozen=True)
class PpoSettings:
    """How PPO of stable-baselines3 learns, with eight environments of 256 steps for each update.

    Attributes
    ----------
    learning_rate, batch, epochs, gamma, gae_lambda, max_gradient, value_weight
        As in stable-baselines3, where the last two are ``max_grad_norm`` and ``vf_coef``.
    log_deviation
        Natural logarithm of the first exploration noise.
    orthogonal
        Whether the first weights are orthogonal.
    """

    learning_rate: float = 3e-4
    batch: int = 128
    epochs: int = 8
    gamma: float = 0.99
    gae_lambda: float = 0.95
    max_gradient: float = 0.5
    value_weight: float = 0.5
    log_deviation: float = 0.0
    orthogonal: bool = True


@dataclass(frozen=True)
class PolicyTraining:
    """What is trained, and where its snapshots are.

    Attributes
    ----------
    environment
        Name of the environment.
    folder
        Holds ``policy_SEED_STEPS.npz`` for each snapshot, and what is needed to continue.
    steps, every
        Environment steps in all, and between two snapshots.
    seed
        Seed of PPO.
    settings
        How PPO learns.
    orders
        Whether the policy learns to follow orders, of which it is reminded at every step.
    """

    environment: str
    folder: Path
    steps: int = 300_000
    every: int = 50_000
    seed: int = 0
    settings: PpoSettings = PpoSettings()
    orders: bool = False

    def snapshots(self) -> dict[int, Path]:
        """Return the file of each snapshot, by its environment steps."""
        counts = range(self.every, self.steps + 1, self.every)
        return {count: self.folder / f"policy_{self.seed}_{count:07d}.npz" for count in counts}


def train_policies(
    training: PolicyTraining, say: Callable[[str], None] = lambda _: None
) -> list[BehaviourPolicy]:
    """Train PPO and return its snapshots; a second call continues.

    Parameters
    ----------
    say
        Is told one line for each snapshot.

    Raises
    ------
    RunError
        stable-baselines3 is not installed.
    """
    snapshots = training.snapshots()
    missing = dict(snapshots)
    for count, path in snapshots.items():
        if not path.exists():
            break
        del missing[count]
    if missing:
        _train(training, missing, say)
    return [BehaviourPolicy.load(path) for path in snapshots.values()]


def _train(training: PolicyTraining, missing: dict[int, Path], say: Callable[[str], None]) -> None:
    try:
        from stable_baselines3 import PPO
        from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize
    except ImportError as error:
        raise RunError(
            f"building pocket RL data needs stable-baselines3: {error}. "
            "Install it with `pip install 'namm-mm[build]'`."
        ) from error
    folder, orders = training.folder, training.orders
    folder.mkdir(parents=True, exist_ok=True)
    make = [lambda: make_environment(training.environment, orders=orders, remind=orders)] * 8
    raw = VecMonitor(DummyVecEnv(make))
    model_path = folder / f"ppo_{training.seed}.zip"
    statistics_path = folder / f"ppo_{training.seed}.pkl"
    begun = len(missing) < len(training.snapshots())
    if begun and model_path.exists() and statistics_path.exists():
        normaliser = VecNormalize.load(str(statistics_path), raw)
        model = PPO.load(model_path, env=normaliser, device="cpu")
    else:
        missing = training.snapshots()
        normaliser = VecNormalize(raw, gamma=training.settings.gamma)
        model = _new_model(PPO, normaliser, training)
    for count, path in missing.items():
        model.learn(count - model.num_timesteps, reset_num_timesteps=False)
        model.save(model_path)
        normaliser.save(str(statistics_path))
        policy = _export(model, normaliser, model.num_timesteps)
        score = evaluate(policy, training.environment, seeds=SEEDS, orders=orders)
        say(f"PPO seed {training.seed}, {count} steps: {score:.0f}")
        policy.save(path)
    raw.close()


def _new_model(ppo: Any, normaliser: Any, training: PolicyTraining) -> Any:
    settings = training.settings
    return ppo(
        "MlpPolicy",
        normaliser,
        n_steps=256,
        batch_size=settings.batch,
        n_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        max_grad_norm=settings.max_gradient,
        vf_coef=settings.value_weight,
        policy_kwargs={
            "log_std_init": settings.log_deviation,
            "ortho_init": settings.orthogonal,
        },
        seed=training.seed,
        device="cpu",
    )


def _export(model: Any, normaliser: Any, steps: int) -> BehaviourPolicy:
    """Return the actor of a stable-baselines3 PPO model, with its observation statistics."""
    weights = {name: value.numpy() for name, value in model.policy.state_dict().items()}
    names = ["mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2", "action_net"]
    return BehaviourPolicy(
        mean=normaliser.obs_rms.mean.astype(np.float32),
        deviation=np.sqrt(normaliser.obs_rms.var + normaliser.epsilon).astype(np.float32),
        weights=tuple(weights[f"{name}.weight"].copy() for name in names),
        biases=tuple(weights[f"{name}.bias"].copy() for name in names),
        log_deviation=weights["log_std"].copy(),
        steps=steps,
    )
