"""Behaviour policies and data for the pocket Decision Transformers, made on this machine.

PPO from stable-baselines3 learns an environment in minutes; a snapshot is kept at regular steps and
the best one is called *expert*, the one nearest to a third of its return *medium*, as D4RL does
with SAC. Each snapshot is exported to a small npz that numpy alone can run, so that data can be
made again without training. The data is in D4RL's layout and never D4RL: every file says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.errors import RunError
from namm_mm.tasks.offline_rl.data import Trajectories
from namm_mm.tasks.offline_rl.environments import make_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float32]


@dataclass(frozen=True)
class PpoSettings:
    """How PPO of stable-baselines3 learns; eight environments, 256 steps each per update.

    Attributes
    ----------
    learning_rate, batch, epochs, gamma, gae_lambda, max_gradient, value_weight
        As in stable-baselines3: ``max_grad_norm`` and ``vf_coef`` are the last two.
    log_deviation
        Natural logarithm of the exploration noise at the start.
    orthogonal
        Orthogonal initial weights.
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
class BehaviourPolicy:
    """A Gaussian policy with a tanh network, run by numpy.

    Attributes
    ----------
    mean, deviation
        (state,) statistics that the network's input is normalised by, then clipped to +-10.
    weights, biases
        Layers of the network, each weight (out, in); tanh between them.
    log_deviation
        (action,) natural logarithm of the exploration noise.
    steps
        Environment steps that the policy was trained for.
    """

    mean: Array
    deviation: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    log_deviation: Array
    steps: int = 0

    def act(self, states: Array, noise: float, generator: np.random.Generator) -> Array:
        """Actions in [-1, 1] for (n, state) states; `noise` multiplies the exploration noise."""
        hidden = np.clip((states - self.mean) / self.deviation, -10.0, 10.0)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.tanh(hidden @ weight.T + bias)
        action = hidden @ self.weights[-1].T + self.biases[-1]
        if noise:
            action = action + noise * np.exp(self.log_deviation) * generator.standard_normal(
                action.shape
            )
        clipped: Array = np.clip(action, -1.0, 1.0).astype(np.float32)
        return clipped

    def save(self, path: Path) -> None:
        """Write an npz of float32 arrays."""
        layers: dict[str, Any] = {}
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            layers[f"weight_{index}"], layers[f"bias_{index}"] = weight, bias
        np.savez_compressed(
            path,
            mean=self.mean,
            deviation=self.deviation,
            log_deviation=self.log_deviation,
            steps=np.asarray(self.steps),
            **layers,
        )

    @classmethod
    def load(cls, path: Path) -> BehaviourPolicy:
        """Read what :meth:`save` wrote."""
        try:
            with np.load(path) as file:
                layers = sum(name.startswith("weight_") for name in file.files)
                return cls(
                    mean=file["mean"],
                    deviation=file["deviation"],
                    weights=tuple(file[f"weight_{i}"] for i in range(layers)),
                    biases=tuple(file[f"bias_{i}"] for i in range(layers)),
                    log_deviation=file["log_deviation"],
                    steps=int(file["steps"]),
                )
        except (OSError, KeyError, ValueError) as error:
            raise RunError(f"{path}: not a behaviour policy: {error}") from error


@dataclass(frozen=True)
class Reminded:
    """A policy of a body's own motors, which is told at every step how they turn.

    The last number of its states is the sign; see :mod:`namm_mm.tasks.offline_rl.orders`.
    """

    policy: BehaviourPolicy

    @property
    def steps(self) -> int:
        """Environment steps that the policy was trained for."""
        return self.policy.steps

    def act(self, states: Array, noise: float, generator: np.random.Generator) -> Array:
        """Actions in [-1, 1] for (n, state + 1) states."""
        return self.policy.act(states[:, :-1], noise, generator) * states[:, -1:]


def rollout(
    policy: BehaviourPolicy | Reminded,
    environment: str,
    *,
    transitions: int,
    noise: float,
    seed: int,
    parallel: int = 8,
    orders: bool = False,
) -> Trajectories:
    """Whole episodes of `policy` until at least `transitions` transitions are there.

    Episodes are taken in the order of their seeds, not of their ends: otherwise short ones, which
    end early, would be over-represented.
    """
    generator = np.random.default_rng(seed)
    environments = [_make(environment, orders) for _ in range(parallel)]
    finished: dict[int, list[Any]] = {}
    running: list[tuple[int, list[Any]]] = []
    states = []
    for index, env in enumerate(environments):
        states.append(env.reset(seed=seed + index)[0])
        running.append((index, []))
    started, first = parallel, 0
    total = 0
    try:
        while total < transitions:
            actions = policy.act(np.asarray(states, dtype=np.float32), noise, generator)
            for row, env in enumerate(environments):
                number, steps = running[row]
                state, reward, terminal, timeout, _ = env.step(actions[row])
                steps.append((states[row], actions[row], reward, terminal, timeout))
                states[row] = state
                if terminal or timeout:
                    finished[number] = steps
                    running[row] = (started, [])
                    states[row] = env.reset(seed=seed + started)[0]
                    started += 1
            while first in finished:
                total += len(finished[first])
                first += 1
    finally:
        for env in environments:
            env.close()
    columns = list(zip(*(step for n in range(first) for step in finished[n]), strict=True))
    return Trajectories(
        observations=np.asarray(columns[0], dtype=np.float32),
        actions=np.asarray(columns[1], dtype=np.float32),
        rewards=np.asarray(columns[2], dtype=np.float32),
        terminals=np.asarray(columns[3], dtype=np.bool_),
        timeouts=np.asarray(columns[4], dtype=np.bool_),
    )


def evaluate(
    policy: BehaviourPolicy | Reminded,
    environment: str,
    *,
    seeds: Sequence[int],
    orders: bool = False,
) -> float:
    """Mean return of the noiseless policy over environments started from `seeds`."""
    generator = np.random.default_rng(0)
    returns = []
    for seed in seeds:
        env = _make(environment, orders)
        state, total, done = env.reset(seed=seed)[0], 0.0, False
        while not done:
            action = policy.act(np.asarray(state, dtype=np.float32)[None], 0.0, generator)[0]
            state, reward, terminal, timeout, _ = env.step(action)
            total, done = total + float(reward), terminal or timeout
        env.close()
        returns.append(total)
    return float(np.mean(returns))


def _make(environment: str, orders: bool) -> Any:
    """The environment as a policy without a memory has to see it."""
    return make_environment(environment, orders=orders, remind=orders)


def _export(model: Any, normaliser: Any, steps: int) -> BehaviourPolicy:
    """Take the actor of a stable-baselines3 PPO model and its observation statistics apart."""
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


def train_policies(
    environment: str,
    folder: Path,
    *,
    steps: int = 300_000,
    every: int = 50_000,
    seed: int = 0,
    settings: PpoSettings = PpoSettings(),
    orders: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[BehaviourPolicy]:
    """Train PPO and return its snapshot after every `every` steps; a second call resumes.

    Parameters
    ----------
    folder
        Holds ``policy_SEED_STEPS.npz`` for each snapshot and what resuming needs.
    orders
        Learn to follow orders, of which this policy is reminded at every step.
    say
        Told one line for each snapshot.

    Raises
    ------
    RunError
        stable-baselines3 is not installed.
    """
    wanted = list(range(every, steps + 1, every))
    paths = [folder / f"policy_{seed}_{count:07d}.npz" for count in wanted]
    done = 0
    while done < len(paths) and paths[done].exists():
        done += 1
    if done < len(paths):
        _continue_training(environment, folder, wanted, paths, done, seed, settings, orders, say)
    return [BehaviourPolicy.load(path) for path in paths]


def _continue_training(
    environment: str,
    folder: Path,
    wanted: list[int],
    paths: list[Path],
    done: int,
    seed: int,
    settings: PpoSettings,
    orders: bool,
    say: Callable[[str], None],
) -> None:
    try:
        from stable_baselines3 import PPO
        from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize
    except ImportError as error:
        raise RunError(
            f"building pocket RL data needs stable-baselines3: {error}. "
            "Install it with `pip install 'namm-mm[build]'`."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    raw = VecMonitor(DummyVecEnv([lambda: _make(environment, orders)] * 8))
    model_path, statistics_path = folder / f"ppo_{seed}.zip", folder / f"ppo_{seed}.pkl"
    if done and model_path.exists() and statistics_path.exists():
        normaliser = VecNormalize.load(str(statistics_path), raw)
        model = PPO.load(model_path, env=normaliser, device="cpu")
    else:
        done = 0
        normaliser = VecNormalize(raw, gamma=settings.gamma)
        model = PPO(
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
            seed=seed,
            device="cpu",
        )
    for count, path in zip(wanted[done:], paths[done:], strict=True):
        model.learn(count - model.num_timesteps, reset_num_timesteps=False)
        model.save(model_path)
        normaliser.save(str(statistics_path))
        policy = _export(model, normaliser, model.num_timesteps)
        score = evaluate(policy, environment, seeds=(1, 2, 3), orders=orders)
        say(f"PPO seed {seed}, {count} steps: {score:.0f}")
        policy.save(path)
    raw.close()
