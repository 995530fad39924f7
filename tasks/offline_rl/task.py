"""The offline RL task: play episodes side by side and score their returns on D4RL's scale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.errors import UsageError, message
from namm_mm.records import Agent, Sample, Score
from namm_mm.tasks.base import ActingTask, Episode, Outlook
from namm_mm.tasks.offline_rl.environments import body, dimensions, make_environment, visible
from namm_mm.tasks.offline_rl.orders import FIRST, ORDERS, PART, SHOWN, check_orders
from namm_mm.tasks.offline_rl.references import (
    ORDERS_RETURNS,
    ORDERS_TARGETS,
    PUBLISHED_TARGETS,
    REFERENCE_RETURNS,
    remote_dataset,
)
from namm_mm.tasks.offline_rl.running import RunningEpisode

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import NDArray


METRIC = "normalized_score"
POCKET = "pocket"
POCKET_TARGETS = {"Hopper": 3300.0, "HalfCheetah": 4900.0, "Walker2d": 3500.0}
"""Target returns for models of locally generated data: about its best episodes."""

_FIRST_SEED = {"train": 1_000_000, "validation": 2_000_000, "test": 3_000_000}
_SEEDS_PER_DRAW = 10_000
_DRAWS = 100  # draws of one split before its seeds reach those of the next
_BLOCK = 3_000_000  # later draws begin after the seeds of all three splits


class OfflineRlTask(ActingTask):
    """Episodes of one Gymnasium MuJoCo environment, one per sample.

    Parameters
    ----------
    environment
        ``Hopper-v5``, ``HalfCheetah-v5``, ``Walker2d-v5``, or ``-v4``, the dynamics of D4RL.
    dataset
        What the model was trained on: ``pocket`` for locally generated data, or ``d4rl/NAME`` as in
        ``d4rl/hopper-medium-v2``. It sets the default target return and labels the scores.
    target_return
        Return to ask for; None takes the usual one of the environment and data set.
    max_steps
        Steps after which an episode is cut, 1 to 1000.
    hidden_velocities
        Show positions and angles only, so that a good action needs earlier observations.
    orders
        Show orders for each part of the episode once, early: see
        :mod:`namm_mm.tasks.offline_rl.orders`.
    episodes
        Size of a split without a limit.

    Notes
    -----
    The score is D4RL's, ``100 * (return - random) / (expert - random)``. Its constants
    were measured in the ``-v2`` environments; elsewhere they are a scale and no more, and each
    score's details say so.
    """

    def __init__(
        self,
        environment: str = "Hopper-v5",
        dataset: str = POCKET,
        target_return: float | None = None,
        max_steps: int = 1000,
        hidden_velocities: bool = False,
        orders: bool = False,
        episodes: int = 32,
    ) -> None:
        self._body = body(environment)
        if orders:
            check_orders(environment, hidden_velocities=hidden_velocities)
        if dataset != POCKET:
            _check_dataset(dataset, environment)
        if not 1 <= max_steps <= 1000:
            raise UsageError(
                message("wrong max_steps", given=max_steps, expected="1 to 1000 steps")
            )
        if episodes < 1:
            raise UsageError(message("wrong episodes", given=episodes, expected="1 or more"))
        if target_return is not None and not np.isfinite(target_return):
            raise UsageError(
                message(
                    "wrong target_return", given=target_return, expected="a finite number or null"
                )
            )
        self.environment = environment
        self.dataset = dataset
        self.max_steps = max_steps
        self.hidden_velocities = hidden_velocities
        self.orders = orders
        self.episodes = episodes
        self._target = target_return

    @property
    def family(self) -> str:
        """Name of the environment in tables."""
        shown = " without velocities" if self.hidden_velocities else ""
        return f"{self.environment}{' with orders' if self.orders else shown}"

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        """Return environment seeds of `split`; no seed belongs to two splits."""
        if split not in _FIRST_SEED:
            raise UsageError(
                message("unknown split", given=split, expected="a split", valid=_FIRST_SEED)
            )
        count = self.episodes if limit is None else limit
        if not 0 <= count <= _SEEDS_PER_DRAW or seed < 0:
            raise UsageError(
                message(
                    "wrong number of episodes, or a negative seed",
                    given={"limit": count, "seed": seed},
                    expected=f"0 to {_SEEDS_PER_DRAW} episodes and a seed of 0 or more",
                )
            )
        block, draw = divmod(seed, _DRAWS)
        first = _FIRST_SEED[split] + block * _BLOCK + draw * _SEEDS_PER_DRAW
        return tuple(
            Sample(
                id=f"{self.family}/{split}/{number}",
                family=self.family,
                seed=number,
                metadata={"environment": self.environment, "dataset": self.dataset},
            )
            for number in range(first, first + count)
        )

    def fingerprint(self) -> str:
        """Return a hash of the environment, its settings and the version of the simulator."""
        facts: dict[str, Any] = {
            "environment": self.environment,
            "dataset": self.dataset,
            "hidden_velocities": self.hidden_velocities,
            "max_steps": self.max_steps,
            "target_return": self.target_return(),
            "gymnasium": version("gymnasium"),
            "mujoco": version("mujoco"),
        }
        if self.orders:
            facts["orders"] = [ORDERS, PART, FIRST, SHOWN]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def outlook(self, split: str, limit: int | None = None) -> Outlook:
        """Return the number of episodes, and the steps of the longest one."""
        count = self.episodes if limit is None else limit
        return Outlook(samples=count, steps=self.max_steps, environment=self._body)

    def dimensions(self) -> tuple[int, int]:
        """Return the dimensions of what an agent sees and does."""
        return dimensions(
            self.environment, hidden_velocities=self.hidden_velocities, orders=self.orders
        )

    def target_return(self) -> float:
        """Return the return that the agent is asked for."""
        if self._target is not None:
            return self._target
        targets = POCKET_TARGETS if self.dataset == POCKET else PUBLISHED_TARGETS
        return (ORDERS_TARGETS if self.orders else targets)[self._body]

    def play(
        self,
        samples: Sequence[Sample],
        agent: Agent,
        *,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[Episode]:
        """Play all `samples` side by side and yield each episode as it ends.

        An exception in an environment ends its episode alone, with the reason in
        ``Episode.error``.
        """
        state_dim, action_dim = self.dimensions()
        observations = np.zeros((len(samples), state_dim), dtype=np.float32)
        rewards = np.zeros(len(samples), dtype=np.float32)
        alive = np.zeros(len(samples), dtype=np.bool_)
        episodes = [RunningEpisode(sample, row, self._make) for row, sample in enumerate(samples)]
        try:
            for episode in episodes:
                alive[episode.row] = self._show(episode.start(), observations[episode.row])
            never = [self._episode(episode) for episode in episodes if not alive[episode.row]]
            if not alive.any():
                yield from never
            for step in range(self.max_steps):
                if not alive.any():
                    break
                actions = agent.act(observations.copy(), rewards.copy(), alive.copy())
                if actions.shape != (len(samples), action_dim):
                    raise UsageError(
                        message(
                            "wrong shape of actions",
                            given=actions.shape,
                            expected=f"({len(samples)}, {action_dim}) for {self.environment}",
                        )
                    )
                rewards[:] = 0.0
                for row in np.flatnonzero(alive):
                    episode = episodes[row]
                    observation, alive[row] = episode.step(actions[row])
                    if self._show(observation, observations[row]):
                        rewards[row] = episode.rewards[-1]
                    if not alive[row]:
                        yield self._episode(episode)
                while never:  # after the first step, when the agent has tokens for each row
                    yield never.pop(0)
                if on_step:
                    on_step(step, int(alive.sum()))
        finally:
            for episode in episodes:
                episode.close()

    def _make(self) -> gymnasium.Env:
        return make_environment(self.environment, max_steps=self.max_steps, orders=self.orders)

    def _show(self, found: NDArray[np.floating] | None, row: NDArray[np.float32]) -> bool:
        """Write what the agent may see of an observation into `row`; False where there is none."""
        if found is None:
            return False
        row[:] = visible(found, self.environment, hidden_velocities=self.hidden_velocities)
        return True

    def _episode(self, episode: RunningEpisode) -> Episode:
        total = float(np.sum(episode.rewards))
        low, high = (ORDERS_RETURNS if self.orders else REFERENCE_RETURNS)[self._body]
        scale = f"D4RL's {self._body} returns of {low:g} (0) and {high:g} (100)"
        if self.orders:
            scale = f"a random policy's {low:g} (0) and the reminded PPO policy's {high:g} (100)"
        details = {
            "return": total,
            "length": len(episode.rewards),
            "fell": episode.terminal,
            "target_return": self.target_return(),
            "scale": scale,
            "published_protocol": self.dataset != POCKET and self.environment.endswith("-v4"),
        }
        return Episode(
            sample=episode.sample,
            score=Score(100.0 * (total - low) / (high - low), METRIC, details),
            row=episode.row,
            rewards=tuple(episode.rewards),
            error=episode.error,
        )


def _check_dataset(dataset: str, environment: str) -> None:
    prefix, _, name = dataset.partition("/")
    if prefix != "d4rl" or not name:
        raise UsageError(
            message(
                "unknown data set",
                given=dataset,
                expected=f"{POCKET!r} or 'd4rl/NAME', such as 'd4rl/hopper-medium-v2'",
            )
        )
    expected = remote_dataset(name).body
    if expected != body(environment):
        raise UsageError(
            message(
                f"data set {dataset!r} is not of this environment",
                given=environment,
                expected=f"{expected}-v4, whose dynamics are those of D4RL",
            )
        )
