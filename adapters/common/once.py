"""Let the encoder of a media model compute once for a sample, however many policies answer it."""

from __future__ import annotations

import copy
from collections import deque
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn

ENCODERS = ("vision_tower", "audio_tower", "visual", "vision_model")
"""Names that models of transformers give to what reads pictures, frames or sounds."""

_MARK = "computes_once"


def encode_once(core: nn.Module, calls: int = 1) -> None:
    """Let each encoder of `core` return one of its last outputs again where its input is the same.

    Parameters
    ----------
    core
        The model without its output layer, whose encoders are its own submodules.
    calls
        How many outputs are held: the calls of one sample. The first call of this function counts.
    """
    for name, encoder in core.named_children():
        if name in ENCODERS and not encoder.__dict__.get(_MARK):
            _remember(encoder, calls)


def _remember(encoder: Any, calls: int) -> None:
    compute = encoder.forward
    last: deque[tuple[Any, Any]] = deque(maxlen=calls)

    def forward(*args: Any, **named: Any) -> Any:
        given = (args, named)
        found = next((output for before, output in last if _same(before, given)), None)
        if found is None:
            found = compute(*args, **named)
            last.append((given, found))
        return copy.copy(found)  # models add to what an encoder returns

    encoder.forward = forward
    encoder.__dict__[_MARK] = True


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype
        return alike and one.device == other.device and bool((one == other).all())
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one is other or (type(one) is type(other) and bool(one == other))
