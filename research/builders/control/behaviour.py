"""Behaviour policies, and the episodes that they play.

A policy is a small npz that numpy alone can run, so that data can be made again without training.
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
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float32]


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
        Environment steps of the policy's training.
    """

    mean: Array
    deviation: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    log_deviation: Array
    steps: int = 0

    def act(self, states: Array, noise: float, generator: np.random.Generator) -> Array:
        """Return actions in [-1, 1] for (n, state) states; `noise` scales the exploration noise."""
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
        """Return the policy that :meth:`save` wrote; raise `RunError` for any other file."""
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
    """A policy that is told at every step with which sign its motors turn.

    The last number of its states is the sign; see :mod:`namm_mm.tasks.offline_rl.orders`.
    """

    policy: BehaviourPolicy

    @property
    def steps(self) -> int:
        """Environment steps of the policy's training."""
        return self.policy.steps

    def act(self, states: Array, noise: float, generator: np.random.Generator) -> Array:
        """Return actions in [-1, 1] for (n, state + 1) states."""
        return self.policy.act(states[:, :-1], noise, generator) * states[:, -1:]


Policy = BehaviourPolicy | Reminded
Step = tuple[Any, Any, float, bool, bool]
"""State, action, reward, terminal and timeout of one step."""


def rollout(
    policy: Policy,
    environment: str,
    *,
    transitions: int,
    noise: float,
    seed: int,
    parallel: int = 8,
    orders: bool = False,
) -> Trajectories:
    """Return whole episodes of `policy`, until there are at least `transitions` transitions.

    Episodes are taken in the order of their seeds, not in the order in which they end: otherwise
    short episodes would be over-represented.
    """
    generator = np.random.default_rng(seed)
    environments = [_make(environment, orders) for _ in range(parallel)]
    finished: dict[int, list[Step]] = {}
    running: list[tuple[int, list[Step]]] = []
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
    return _trajectories([step for number in range(first) for step in finished[number]])


def _trajectories(steps: Sequence[Step]) -> Trajectories:
    columns = list(zip(*steps, strict=True))
    return Trajectories(
        observations=np.asarray(columns[0], dtype=np.float32),
        actions=np.asarray(columns[1], dtype=np.float32),
        rewards=np.asarray(columns[2], dtype=np.float32),
        terminals=np.asarray(columns[3], dtype=np.bool_),
        timeouts=np.asarray(columns[4], dtype=np.bool_),
    )


def evaluate(
    policy: Policy, environment: str, *, seeds: Sequence[int], orders: bool = False
) -> float:
    """Return the mean return of the policy without noise, from environments with these seeds."""
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
    """The environment with everything that a policy without a memory needs to see."""
    return make_environment(environment, orders=orders, remind=orders)
