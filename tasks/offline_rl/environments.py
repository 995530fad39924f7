"""The Gymnasium MuJoCo environments, with or without velocities in what the agent sees."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from namm_mm.errors import UsageError, message
from namm_mm.tasks.offline_rl.orders import ORDERS
from namm_mm.tasks.offline_rl.orders_environment import Orders

if TYPE_CHECKING:
    import gymnasium
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class EnvironmentFacts:
    """Sizes of one body.

    Attributes
    ----------
    state, action
        Dimensions of the full observation and of the action.
    positions
        Number of positions and angles, which come first in an observation; velocities follow.
    """

    state: int
    action: int
    positions: int


BODIES = {
    "Hopper": EnvironmentFacts(state=11, action=3, positions=5),
    "HalfCheetah": EnvironmentFacts(state=17, action=6, positions=8),
    "Walker2d": EnvironmentFacts(state=17, action=6, positions=8),
}
ENVIRONMENTS = tuple(f"{body}-{version}" for body in BODIES for version in ("v5", "v4"))


def body(environment: str) -> str:
    """Return ``"Hopper"`` for ``"Hopper-v5"``; raise `UsageError` for an unknown environment."""
    if environment not in ENVIRONMENTS:
        raise UsageError(
            message(
                "unknown environment",
                given=environment,
                expected="a Gymnasium MuJoCo environment that this task knows",
                valid=ENVIRONMENTS,
            )
        )
    return environment.partition("-")[0]


def dimensions(
    environment: str, *, hidden_velocities: bool = False, orders: bool = False
) -> tuple[int, int]:
    """Return state and action dimension, without making the environment."""
    facts = BODIES[body(environment)]
    state = facts.positions if hidden_velocities else facts.state
    return state + 2 * ORDERS * orders, facts.action


def visible(
    observations: NDArray[np.floating], environment: str, *, hidden_velocities: bool
) -> NDArray[np.float32]:
    """Return the part of (..., state) observations that the agent may see, as float32."""
    if not hidden_velocities:
        return observations.astype("float32")
    state, _ = dimensions(environment, hidden_velocities=True)
    return observations[..., :state].astype("float32")


def make_environment(
    environment: str,
    *,
    max_steps: int | None = None,
    orders: bool = False,
    remind: bool = False,
) -> gymnasium.Env:
    """Return one environment, without Gymnasium's warning that v4, which D4RL needs, is old.

    `orders` wraps it in :class:`~namm_mm.tasks.offline_rl.orders_environment.Orders`, which has the
    option `remind`.
    """
    import gymnasium

    body(environment)
    _log_mujoco_warnings()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*out of date.*")
        made = gymnasium.make(environment, max_episode_steps=max_steps)
    return Orders(made, remind=remind) if orders else made


def _log_mujoco_warnings() -> None:
    """Send MuJoCo's warnings to logging; its default writes a file into the working folder."""
    import mujoco  # type: ignore[import-untyped]

    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(logging.getLogger("namm_mm.mujoco").info)
