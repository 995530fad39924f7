"""Rotary position embeddings (RoPE): turn queries back to what they were before, and forward."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from namm_mm.errors import UnsupportedError, message

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Frequencies of these kinds depend on the length of the sequence or on the kind of token.
_CHANGING = ("dynamic", "longrope", "mrope")


@dataclass(frozen=True)
class Rotary:
    """The rotation of a model: channel pairs ``i`` and ``i + half`` turn with the position.

    Attributes
    ----------
    frequencies
        Radians per position of each pair; channels beyond the pairs do not turn. Empty where a
        model has no rotary embedding.
    """

    frequencies: tuple[float, ...] = ()

    def turned(self, vectors: Tensor, positions: Tensor, *, back: bool = False) -> Tensor:
        """Turn (..., position, channel) to `positions` (position,), or `back` from there."""
        if not self.frequencies:
            return vectors
        angles = self._angles(positions, vectors.device)
        sine = angles.sin().neg() if back else angles.sin()
        return _apply(vectors, angles.cos().float(), sine.float())

    def averaged(self, vectors: Tensor, positions: Tensor) -> Tensor:
        """Mean over `positions` (position,) of what vectors (..., channel) turn to there."""
        if not self.frequencies:
            return vectors
        angles = self._angles(positions, vectors.device)
        return _apply(vectors, angles.cos().mean(0).float(), angles.sin().mean(0).float())

    def _angles(self, positions: Tensor, device: torch.device) -> Tensor:
        """(position, pair) float64: far positions need its digits."""
        return positions.to(device).double()[:, None] * _placed(self.frequencies, device)


@lru_cache(maxsize=32)
def _placed(frequencies: tuple[float, ...], device: torch.device) -> Tensor:
    """(pair,) float64, copied to a device once."""
    import torch

    return torch.tensor(frequencies, dtype=torch.float64, device=device)


def _apply(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    import torch

    half = cosine.shape[-1]
    first, second, rest = (
        vectors[..., :half],
        vectors[..., half : 2 * half],
        vectors[..., 2 * half :],
    )
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine, rest], dim=-1)


def rotary_of(model: nn.Module) -> Rotary:
    """Return the rotation of a transformers decoder.

    Raises
    ------
    UnsupportedError
        Its rotary embedding is of a kind that cannot be turned back from the position alone, or
        pairs other channels.
    """
    from transformers import PreTrainedModel

    whole: Any = model
    config = whole.config.get_text_config(decoder=True).to_dict()
    decoder = whole.get_decoder() if isinstance(model, PreTrainedModel) else model
    embedding = dict(decoder.named_children()).get("rotary_emb")
    if embedding is None and not _asks_for_rotation(config):
        return Rotary()
    settings = config.get("rope_parameters") or {}
    kind = str(settings.get("rope_type", "default"))
    buffers = {} if embedding is None else dict(embedding.named_buffers())
    if "inv_freq" not in buffers or kind in _CHANGING or "mrope_section" in settings:
        raise _unsupported(model, kind)
    rotary = Rotary(tuple(buffers["inv_freq"].double().tolist()))
    if not _is_rotation_of(decoder, embedding, rotary):
        raise _unsupported(model, "one that pairs other channels")
    return rotary


def _asks_for_rotation(config: Mapping[str, Any]) -> bool:
    return any(value for name, value in config.items() if "rope" in name or "rotary" in name)


def _is_rotation_of(decoder: Any, embedding: Any, rotary: Rotary) -> bool:
    """Whether the model's own function turns random vectors as `rotary` does."""
    import torch

    source = vars(sys.modules[type(decoder).__module__])
    if "apply_rotary_pos_emb" not in source:
        return False
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(1, 1, 3, 2 * len(rotary.frequencies), generator=generator)
    vectors, positions = vectors.to(embedding.inv_freq.device), torch.tensor([0, 1, 7])
    cosine, sine = embedding(vectors, positions[None].to(vectors.device))
    found, _ = source["apply_rotary_pos_emb"](vectors, vectors, cosine, sine)
    found = found / float(vars(embedding).get("attention_scaling", 1.0))
    return bool(torch.allclose(found, rotary.turned(vectors, positions), atol=1e-4))


def _unsupported(model: nn.Module, kind: str) -> UnsupportedError:
    return UnsupportedError(
        message(
            f"queries of {type(model).__name__} cannot be turned back to before RoPE",
            given=f"rotary embedding {kind}",
            expected="fixed frequencies, pairs of channels in the two halves of a head",
            then="Take a policy that looks at attention instead, such as snapkv.",
        )
    )
