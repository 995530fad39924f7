"""KeyDiff: keys that differ most from the mean key stay (arXiv 2504.15364)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from namm_mm.policies.base import LayerView, Policy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class KeyDiff(Policy):
    """Minus the cosine of the key and the mean of the normalised keys of its head.

    It looks at no attention. Norms and means are taken in float32.
    """

    name: ClassVar[str] = "keydiff"

    def score(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot): from -1, like the mean key, to 1."""
        import torch

        unit = torch.nn.functional.normalize(view.keys.float(), dim=-1)
        held = unit.masked_fill(~view.filled[..., None], 0.0)
        anchor = held.sum(2, keepdim=True) / view.lengths[..., None, None].clamp_min(1)
        return -torch.nn.functional.cosine_similarity(unit, anchor, dim=-1)
