"""An episode that is being played: its environment, and what happened in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import NDArray

    from namm_mm.records import Sample


@dataclass
class RunningEpisode:
    """The running environment of one sample. Exceptions of the simulator fail this sample alone.

    Attributes
    ----------
    sample, row
        The sample, and its row in the agent's batch.
    make
        Makes the environment.
    environment
        None before :meth:`start`, and where it failed.
    rewards
        Of each step so far.
    terminal
        Whether the environment itself ended the episode, instead of the limit of steps.
    error
        Empty, or one line that says why the episode cannot be finished.
    """

    sample: Sample
    row: int
    make: Callable[[], gymnasium.Env]
    environment: gymnasium.Env | None = None
    rewards: list[float] = field(default_factory=list)
    terminal: bool = False
    error: str = ""

    def start(self) -> NDArray[np.floating] | None:
        """Return the first observation; None where the environment did not start."""
        try:
            self.environment = self.make()
            observation, _ = self.environment.reset(seed=self.sample.seed)
        except Exception as error:
            self.error = f"the environment did not start: {type(error).__name__}: {error}"
            return None
        return np.asarray(observation)

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.floating] | None, bool]:
        """Take one step.

        Returns
        -------
        observation, going
            The new observation, None where the step failed; whether the episode goes on.
        """
        if self.environment is None:
            raise RuntimeError(f"the environment of {self.sample.id!r} was not started")
        if not np.isfinite(action).all():
            self.error = f"the agent's action at step {len(self.rewards)} is not finite"
            return None, False
        try:
            observation, reward, terminal, cut, _ = self.environment.step(action)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self.error = f"the environment failed at step {len(self.rewards)}: {reason}"
            return None, False
        self.rewards.append(float(reward))
        self.terminal = bool(terminal)
        return np.asarray(observation), not (terminal or cut)

    def close(self) -> None:
        """Free the simulator."""
        if self.environment is not None:
            self.environment.close()
