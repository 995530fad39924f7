"""The flat parameter vector: evolution sees one vector, a scorer sees named matrices.

The order is the official one. Matrices are row-major ``(in, out)``: the transpose of what
``torch.nn.Linear`` holds. In the paper's letters a BAM is Wqkv, bqkv, Wo, bo, wl, bl.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message

AGE_FEATURES = 8
BINS = 17
FEATURES = AGE_FEATURES + BINS
HIDDEN = 32


@dataclass(frozen=True)
class Layout:
    """Names and shapes of a scorer's parameters, in the order of the flat vector."""

    scorer: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Name the parts of a flat vector; they are views of it."""
        if vector.ndim != 1 or vector.numel() != self.size:
            raise UsageError(
                message(
                    f"wrong size of a {self.scorer} parameter vector",
                    given=tuple(vector.shape),
                    expected=f"({self.size},)",
                    then=_sizes(),
                )
            )
        parts = torch.split(vector, [math.prod(shape) for shape in self.shapes.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Make the flat vector of named parts."""
        for name, shape in self.shapes.items():
            given = tuple(parts[name].shape) if name in parts else None
            if given != shape:
                raise UsageError(
                    message(
                        f"wrong {self.scorer} parameter {name!r}",
                        given=given,
                        expected=f"shape {shape}",
                    )
                )
        return torch.cat([parts[name].reshape(-1) for name in self.shapes])


LAYOUTS: Mapping[str, Layout] = {
    "bam": Layout(
        "bam",
        {
            "query_key_value_weight": (FEATURES, 3 * HIDDEN),
            "query_key_value_bias": (3 * HIDDEN,),
            "output_weight": (HIDDEN, 2 * FEATURES),
            "output_bias": (2 * FEATURES,),
            "score_weight": (FEATURES, 1),
            "score_bias": (1,),
        },
    ),
    "mlp": Layout(
        "mlp",
        {
            "hidden_weight": (FEATURES, FEATURES),
            "hidden_bias": (FEATURES,),
            "score_weight": (FEATURES, 1),
            "score_bias": (1,),
        },
    ),
    "linear": Layout("linear", {"score_weight": (FEATURES, 1), "score_bias": (1,)}),
}


def layout_of(vector: Tensor) -> Layout:
    """Find the layout by the length of the vector; raise `UsageError` if there is none."""
    for layout in LAYOUTS.values():
        if vector.ndim == 1 and vector.numel() == layout.size:
            return layout
    raise UsageError(
        message(
            "wrong size of a NAMM parameter vector",
            given=tuple(vector.shape),
            expected=f"{LAYOUTS['bam'].size} numbers for a BAM",
            then=_sizes(),
        )
    )


def _sizes() -> str:
    sizes = (f"{layout.size} ({name})" for name, layout in LAYOUTS.items())
    return f"Known sizes: {', '.join(sizes)}."
