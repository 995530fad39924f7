"""Measure when tokens are generated: wall time that waits for the device, and a streamer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def now(device: torch.device) -> float:
    """Return the wall time in seconds, after all work on `device` is done."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class TokenTimes:
    """A streamer for ``generate`` that notes the time of each token.

    The first time is that of the prompt, which ``generate`` hands over before any token.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start = now(device)
        self._seen: list[float] = []

    def put(self, value: Tensor) -> None:
        """Note the time of a token."""
        self._seen.append(now(self.device))

    def end(self) -> None:
        """Do nothing: no token is held back."""

    @property
    def first_token_seconds(self) -> float:
        """Seconds from the construction of this streamer to the first token."""
        return self._seen[1] - self.start

    @property
    def token_seconds(self) -> float:
        """Mean seconds of each later token; 0.0 where there was none."""
        later = len(self._seen) - 2
        return (self._seen[-1] - self._seen[1]) / later if later else 0.0
