"""Training batches of Decision Transformers: random windows of trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.tasks.offline_rl.data import Trajectories

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALE = 1000.0
"""Divides returns-to-go."""

MAX_STEPS = 1000
"""Timesteps that the model knows."""


class Windows:
    """Draws windows that end at a step drawn evenly from all steps.

    Windows that begin before their episode are padded at the left and masked, as the first steps of
    an agent are.

    Parameters
    ----------
    data
        Whole episodes.
    window
        Steps of a window.
    hidden
        (transition, number) part of the state that the model does not see; it is normalised.
    shifted, beginning
        See :class:`~research.builders.control.training.TrainingSettings`.
    """

    def __init__(
        self,
        data: Trajectories,
        window: int,
        hidden: NDArray[np.float32] | None = None,
        *,
        shifted: bool = False,
        beginning: int = 0,
    ) -> None:
        self._steps = np.arange(window - beginning)
        self._beginning = np.arange(beginning)
        self._start = np.empty(len(data), dtype=np.int64)
        self._to_go = np.empty(len(data), dtype=np.float32)
        for first, last in data.bounds:
            self._start[first:last] = first
            rewards = data.rewards[first:last].astype(np.float64)
            self._to_go[first:last] = np.cumsum(rewards[::-1])[::-1] / SCALE
        self.mean = data.observations.mean(axis=0)
        self.deviation = data.observations.std(axis=0) + 1e-6
        self._states = ((data.observations - self.mean) / self.deviation).astype(np.float32)
        self._actions = data.actions
        self._shifted = shifted
        self._hidden = hidden
        if hidden is not None:
            self._hidden = (hidden - hidden.mean(axis=0)) / (hidden.std(axis=0) + 1e-6)

    def draw(self, count: int, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return `count` windows: the arguments of ``DecisionTransformerModel``, and ``hidden``."""
        last = generator.integers(len(self._start), size=count)
        index = last[:, None] - self._steps[::-1]
        start = self._start[last][:, None]
        mask = index >= start
        index = np.maximum(index, start)
        if len(self._beginning):
            before = np.broadcast_to(start + self._beginning, (count, len(self._beginning)))
            mask = np.concatenate([before < index[:, :1], mask], axis=1)
            index = np.concatenate([before, index], axis=1)
        steps = index - start
        if self._shifted:
            steps = steps - steps.min(axis=1, keepdims=True)
            latest = MAX_STEPS - steps.max(axis=1)
            steps = steps + generator.integers(latest)[:, None]
        batch = {
            "states": self._states[index],
            "actions": self._actions[index],
            "returns_to_go": self._to_go[index][..., None],
            "timesteps": steps,
            "attention_mask": mask.astype(np.int64),
        }
        if self._hidden is not None:
            batch["hidden"] = self._hidden[index]
        return batch
