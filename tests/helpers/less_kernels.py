"""Random kernels of LESS."""

from __future__ import annotations

import torch

from namm_mm.residuals.less import PARTS, LessKernels


def random_kernels(
    heads: int = 4,
    kv_heads: int = 2,
    dim: int = 16,
    card: dict[str, str] | None = None,
    *,
    layers: int = 2,
    features: int = 4,
) -> LessKernels:
    """Return kernels whose tensors are normal, and numbers of half precision."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "a1": (heads, dim, 8), "a2": (heads, 8, features), "b1": (kv_heads, dim, 8),
        "b2": (kv_heads, 8, features), "b3": (kv_heads, features, features),
        "s1": (kv_heads, 1, features), "s2": (kv_heads, 1, features),
    }  # fmt: skip
    parts = tuple(
        {name: torch.randn(shapes[name], generator=generator).half().float() for name in PARTS}
        for _ in range(layers)
    )
    return LessKernels(parts, card or {})
