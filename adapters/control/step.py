"""Run a few new tokens through the blocks of a Decision Transformer, onto a cache.

The forward of transformers spends most of a step's time outside the arithmetic: in masks, module
calls and look-ups in the configuration. An agent takes a thousand steps of three tokens each, so
this module applies the same weights in the same order directly. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch.nn.functional as functional
from torch import Tensor, addmm

from namm_mm.observations.formula import Formula

if TYPE_CHECKING:
    from namm_mm.memory.cache import EvictingCache


def encode(encoder: Any, embedded: Tensor, cache: EvictingCache, padding: Tensor | None) -> Tensor:
    """Add new tokens to the cache and return the hidden state of the newest one.

    Parameters
    ----------
    encoder
        A ``DecisionTransformerGPT2Model``.
    embedded
        (row, token, width): the embedded new tokens.
    padding
        (row, all tokens so far) bool, False where a row had ended; None if none has.

    Returns
    -------
    Tensor
        (row, width).
    """
    rows, count, width = embedded.shape
    hidden = (embedded + encoder.wpe.weight[0]).view(-1, width)
    layers: Sequence[Any] = cache.layers
    for block, layer in zip(encoder.h, layers, strict=True):
        attention, mlp = block.attn, block.mlp
        projected = _conv(attention.c_attn, _norm(block.ln_1, hidden))
        queries, keys, values = projected.view(
            rows, count, 3, attention.num_heads, attention.head_dim
        ).permute(2, 0, 3, 1, 4)
        attended = layer.attend(queries, keys, values, padding, Formula(attention.scaling))
        attended = attended.transpose(1, 2).reshape(-1, width)
        if block is encoder.h[-1]:  # only the newest token is needed from here on
            attended, hidden = attended[count - 1 :: count], hidden[count - 1 :: count]
        hidden = hidden + _conv(attention.c_proj, attended)
        inner = mlp.act(_conv(mlp.c_fc, _norm(block.ln_2, hidden)))
        hidden = hidden + _conv(mlp.c_proj, inner)
    return _norm(encoder.ln_f, hidden)


def _conv(layer: Any, hidden: Tensor) -> Tensor:
    """Return the output of GPT-2's ``Conv1D``, a linear layer whose weight is (in, out)."""
    return addmm(layer.bias, hidden, layer.weight)


def _norm(layer: Any, hidden: Tensor) -> Tensor:
    return functional.layer_norm(
        hidden, layer.normalized_shape, layer.weight, layer.bias, layer.eps
    )
