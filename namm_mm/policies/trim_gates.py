"""The trained gates of TrimKV (arXiv 2512.03324), and their file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.registry.bundled import Bundled, read_half, write_half

if TYPE_CHECKING:
    from torch import Tensor

MAKE = "`namm-mm build trimkv model=NAME out=FILE` trains gates for a model."
GATES = Bundled("gates of trimkv", "trim_", ".safetensors", MAKE)
PARTS = ("inner", "inner_bias", "outer", "outer_bias")


@dataclass(frozen=True)
class TrimGates:
    """One small network for each kv head of each layer.

    Attributes
    ----------
    tensors
        float32: ``inner`` (layer, kv_head, key_dim + value_dim, hidden), ``inner_bias`` (layer,
        kv_head, 1, hidden), ``outer`` (layer, kv_head, hidden, 1), ``outer_bias`` (layer, kv_head,
        1, 1).
    card
        What they were trained with: ``model``, ``capacity``, scores.
    """

    tensors: Mapping[str, Tensor]
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Layers, kv heads, and the size of a key and a value together."""
        layers, heads, width, _ = self.tensors["inner"].shape
        return int(layers), int(heads), int(width)

    def log_retention(self, layer: int, keys: Tensor, values: Tensor) -> Tensor:
        """(..., kv_head, token) float32, below 0: ``log beta`` of keys and values of a layer."""
        part = {name: tensor[layer].to(keys.device) for name, tensor in self.tensors.items()}
        return log_retention(part, keys, values)

    def save(self, file: Path) -> Path:
        """Write the tensors in half precision, with the card in the file's metadata."""
        return write_half(self.tensors, self.card, file)


def log_retention(part: Mapping[str, Tensor], keys: Tensor, values: Tensor) -> Tensor:
    """``logsigmoid(MLP([k; v]))`` of one layer; `keys` and `values` (..., kv_head, token, dim)."""
    import torch
    from torch.nn.functional import gelu, logsigmoid

    both = torch.cat([keys.float(), values.float()], dim=-1)
    hidden = gelu(both @ part["inner"] + part["inner_bias"])
    return logsigmoid(hidden @ part["outer"] + part["outer_bias"])[..., 0]


def load_gates(name: str | Path) -> TrimGates:
    """Read gates: a bundled name or a file.

    Raises
    ------
    UsageError
        There is no such file, or it holds no gates.
    """
    file = GATES.find(name)
    try:
        tensors, card = read_half(file)
        return TrimGates({part: tensors[part] for part in PARTS}, card)
    except (ValueError, KeyError, OSError) as error:
        expected = f"a safetensors file with {', '.join(PARTS)}"
        raise GATES.unreadable(file, error, expected) from error
