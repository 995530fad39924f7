"""What acts in environments: an :class:`Agent` is made by an adapter and played by a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from namm_mm.records.memory_use import MemoryUse, Trace
    from namm_mm.records.sample import TokenType

    Numbers: TypeAlias = NDArray[np.float32]
    Flags: TypeAlias = NDArray[np.bool_]


class Agent(ABC):
    """Acts in a batch of environments."""

    @abstractmethod
    def act(self, observations: Numbers, rewards: Numbers, alive: Flags) -> Numbers:
        """Choose the next actions.

        Parameters
        ----------
        observations
            (environment, state_dim), of every environment, the finished ones included.
        rewards
            (environment,) reward of the previous step; zeros at the first step.
        alive
            (environment,) False for finished episodes. Their tokens are masked as padding, so that
            their part of the memory stays as it was at their end. Their actions are ignored.

        Returns
        -------
        ndarray
            (environment, action_dim) float32.
        """

    @property
    @abstractmethod
    def token_types(self) -> tuple[TokenType, ...]:
        """One for each token fed so far to the environments that are still alive, in order."""


class ReencodingAgent(Agent):
    """Acts without a memory: the last tokens are encoded anew for every decision.

    It reports what it held as :class:`namm_mm.memory.Memory` does.
    """

    @property
    @abstractmethod
    def layers(self) -> int:
        """Number of attention layers of the model."""

    @abstractmethod
    def usage(self, row: int = 0) -> MemoryUse:
        """Return the tokens that the last decision of `row` saw, and the bytes that it took."""

    @abstractmethod
    def kept(self, layer: int, row: int = 0) -> list[Tensor]:
        """Return the positions of those tokens for each head, ascending int64 on the CPU."""

    @abstractmethod
    def trace(self, row: int = 0) -> Trace:
        """Return the sizes after every update: an empty trace where nothing is evicted."""
