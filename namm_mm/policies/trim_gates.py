"""The trained gates of TrimKV (arXiv 2512.03324), and their file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.errors import UsageError, message

if TYPE_CHECKING:
    from torch import Tensor

ASSETS = Path(__file__).parents[1] / "assets"
PREFIX = "trim_"
MAKE = "`namm-mm build trimkv model=NAME out=FILE` trains gates for a model."


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
        from safetensors.torch import save_file

        file.parent.mkdir(parents=True, exist_ok=True)
        half = {name: tensor.half().contiguous() for name, tensor in self.tensors.items()}
        save_file(half, file, metadata={"card": json.dumps(dict(self.card))})
        return file


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
    from safetensors import SafetensorError, safe_open

    bundled = ASSETS / f"{PREFIX}{name}.safetensors"
    file = bundled if bundled.is_file() else Path(name).expanduser()
    if not file.is_file():
        names = [f.stem.removeprefix(PREFIX) for f in sorted(ASSETS.glob(f"{PREFIX}*"))]
        expected = "a bundled name or a .safetensors file"
        raise UsageError(
            message(
                "no such gates of trimkv",
                given=str(name),
                expected=expected,
                valid=names,
                then=MAKE,
            )
        )
    try:
        with safe_open(file, "pt") as opened:
            tensors = {
                part: opened.get_tensor(part).float()
                for part in ("inner", "inner_bias", "outer", "outer_bias")
            }
            return TrimGates(tensors, json.loads((opened.metadata() or {}).get("card", "{}")))
    except (SafetensorError, ValueError, OSError) as error:
        raise UsageError(
            message(
                f"the gates of trimkv cannot be read ({error})",
                given=str(file),
                expected="a safetensors file of `namm-mm build trimkv`",
            )
        ) from error
