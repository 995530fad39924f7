"""The environment that shows its orders once; see :mod:`namm_mm.tasks.offline_rl.orders`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from namm_mm.tasks.offline_rl.orders import DIRECTED, FIRST, ORDERS, PART, SHOWN, STEPS

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Orders(gymnasium.Wrapper):
    """Reward speed in the direction ordered, or turn the motors, and show the orders once.

    Parameters
    ----------
    environment
        A HalfCheetah, which tells the parts of its reward, a Hopper or a Walker2d.
    remind
        Show the order of the current part, as one number, at every step: the view of the behaviour
        policy, which has no memory.

    Notes
    -----
    An observation is that of the environment, then one number per order, +1 or -1 in the `SHOWN`
    steps from `FIRST` on and 0 elsewhere, then one per part, 1 for the current one and 0 for
    others. An episode is cut after `STEPS` steps.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any], *, remind: bool = False) -> None:
        super().__init__(environment)
        self._remind = remind
        self._directed = DIRECTED in str(environment.spec and environment.spec.id)
        self._orders = np.ones(ORDERS, dtype=np.float32)
        self._step = 0
        extra = 1 if remind else 2 * ORDERS
        size = environment.observation_space.shape[0] + extra  # type: ignore[index]
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)

    @property
    def order(self) -> float:
        """The order of the current part."""
        return float(self._orders[self._part])

    @property
    def _part(self) -> int:
        return min(self._step // PART, ORDERS - 1)

    def _see(self, observation: NDArray[np.floating]) -> NDArray[np.floating]:
        if self._remind:
            return np.append(observation, self.order)
        shown = self._orders if 0 <= self._step - FIRST < SHOWN else np.zeros(ORDERS)
        return np.concatenate([observation, shown, np.eye(ORDERS)[self._part]])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.floating], dict[str, Any]]:
        """Draw new orders and return the first observation; `seed` draws the same ones."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._orders = self.env.unwrapped.np_random.choice([-1.0, 1.0], ORDERS)
        self._step = 0
        return self._see(observation), info

    def step(
        self, action: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], float, bool, bool, dict[str, Any]]:
        """Take a step: speed counts in the ordered direction, or actions get the ordered sign."""
        turned = action if self._directed else np.float32(self.order) * action
        observation, reward, terminal, cut, info = self.env.step(turned)
        if self._directed:
            reward = self.order * info["reward_forward"] + info["reward_ctrl"]
        self._step += 1
        return self._see(observation), float(reward), terminal, cut or self._step >= STEPS, info
