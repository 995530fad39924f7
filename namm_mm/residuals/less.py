"""The trained feature maps of LESS (arXiv 2402.09398, equations 5 and 6), and their file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import dropout, gelu

from namm_mm.errors import UsageError, message
from namm_mm.registry.bundled import Bundled, read_half, write_half
from namm_mm.residuals.feature_maps import FeatureMaps

PARTS = ("a1", "a2", "b1", "b2", "b3", "s1", "s2")
MAKE = "`namm-mm build less model=NAME policy=NAME out=FILE` trains them."
KERNELS = Bundled("kernels of LESS", "less_", ".safetensors", MAKE)


def query_features(part: Mapping[str, Tensor], queries: Tensor, drop: float = 0.0) -> Tensor:
    """``phi(q) = |gelu(gelu(q A1) A2)|``, for each query head; `drop` is the training's dropout."""
    hidden = gelu(dropout(queries @ part["a1"], drop))
    return gelu(hidden @ part["a2"]).abs()


def key_features(part: Mapping[str, Tensor], keys: Tensor, drop: float = 0.0) -> Tensor:
    """``psi(k) = |u + (u B3) s2|`` with ``u = |s1| gelu(gelu(k B1) B2)``, for each kv head."""
    hidden = gelu(dropout(keys @ part["b1"], drop))
    first = part["s1"].abs() * gelu(hidden @ part["b2"])
    return (first + (first @ part["b3"]) * part["s2"]).abs()


@dataclass(frozen=True)
class LessKernels(FeatureMaps):
    """Small networks for each head of each layer.

    Attributes
    ----------
    parts
        For each layer its tensors in float32: ``a1`` (query_head, dim, hidden), ``a2`` (query_head,
        hidden, feature), ``b1`` (kv_head, dim, hidden), ``b2`` (kv_head, hidden, feature), ``b3``
        (kv_head, feature, feature), ``s1`` and ``s2`` (kv_head, 1, feature).
    card
        What they were trained with: ``model``, ``policy``, ``budget``, scores.
    """

    parts: tuple[Mapping[str, Tensor], ...]
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def features(self) -> int:
        """How many features a query or a key has."""
        return int(self.parts[0]["a2"].shape[-1])

    @property
    def layers(self) -> int:
        """Layers that they were trained for."""
        return len(self.parts)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Query heads, kv heads and head size of the model."""
        first = self.parts[0]
        return int(first["a1"].shape[0]), int(first["b1"].shape[0]), int(first["a1"].shape[1])

    def check_model(self, query_heads: int, kv_heads: int, head_dim: int) -> None:
        """Raise `UsageError` where a model's heads are not those of the training."""
        given = (query_heads, kv_heads, head_dim)
        if given != self.shape:
            trained = self.card.get("model", "another model")
            raise UsageError(
                message(
                    "the kernels of LESS do not fit the model",
                    given=f"query heads, kv heads and head size {given}",
                    expected=f"{self.shape}, those of {trained}",
                    then="Train kernels for this model: `namm-mm build less model=NAME`.",
                )
            )

    def on(self, device: torch.device) -> Self:
        """Return the kernels on `device`, so that no call copies them there."""
        return replace(self, parts=tuple(self._on(layer, device) for layer in range(self.layers)))

    def of_queries(self, layer: int, queries: Tensor) -> Tensor:
        """``phi`` of the queries."""
        return query_features(self._on(layer, queries.device), queries.float())

    def of_keys(self, layer: int, keys: Tensor, positions: Tensor) -> Tensor:
        """``psi`` of the keys."""
        return key_features(self._on(layer, keys.device), keys.float())

    def _on(self, layer: int, device: torch.device) -> Mapping[str, Tensor]:
        return {name: part.to(device) for name, part in self.parts[layer].items()}

    def save(self, file: Path) -> Path:
        """Write the tensors in half precision, with the card in the file's metadata."""
        tensors = {
            f"{layer}.{name}": part
            for layer, parts in enumerate(self.parts)
            for name, part in parts.items()
        }
        return write_half(tensors, self.card, file)


def load_kernels(name: str | Path) -> LessKernels:
    """Read kernels: a bundled name or a file.

    Raises
    ------
    UsageError
        There is no such file, or it holds no kernels.
    """
    file = KERNELS.find(name)
    try:
        tensors, card = read_half(file)
        count = 1 + max(int(key.partition(".")[0]) for key in tensors)
        parts = tuple({n: tensors[f"{layer}.{n}"] for n in PARTS} for layer in range(count))
    except (ValueError, KeyError, OSError) as error:
        expected = f"a safetensors file with {', '.join(PARTS)} for each layer"
        raise KERNELS.unreadable(file, error, expected) from error
    return LessKernels(parts, card)
