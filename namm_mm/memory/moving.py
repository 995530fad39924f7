"""Numbers of the host on their way to a device that computes on its own."""

from __future__ import annotations

import torch
from torch import Tensor


def send(numbers: Tensor, device: torch.device) -> Tensor:
    """Copy numbers of the host to `device`; neither waits for the other.

    A copy from ordinary memory makes the host wait until the device has done all it was asked for.
    From pinned memory it is one more thing to do.
    """
    if numbers.device == device or device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)
