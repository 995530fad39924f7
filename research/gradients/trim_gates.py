"""Train the gates of TrimKV for one layer (arXiv 2512.03324).

In training nothing is evicted: a token that came ``a`` positions ago weighs ``beta ** a`` times
what it would. The loss is the mean squared error of the layer's output after its projection,
against full attention, over the target's, plus a hinge on the sum of what is retained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from namm_mm.policies.trim_gates import log_retention
from research.residuals.recording import Attended

RATE = 2e-3
RETAINED = 6.0  # bias of the gate at the start: beta .9975


def new_part(kv_heads: int, width: int, hidden: int) -> dict[str, Tensor]:
    """Tensors of one layer before training; all tokens are retained alike."""
    bound = math.sqrt(6 / (width + hidden))
    return {
        "inner": torch.empty(kv_heads, width, hidden).uniform_(-bound, bound),
        "inner_bias": torch.zeros(kv_heads, 1, hidden),
        "outer": torch.zeros(kv_heads, hidden, 1),
        "outer_bias": torch.full((kv_heads, 1, 1), RETAINED),
    }


def losses(
    part: dict[str, Tensor], attended: Attended, projection: Tensor, capacity: float
) -> tuple[Tensor, Tensor]:
    """Relative error of the output, and what is retained above `capacity`, a part of the tokens."""
    queries, keys, values = (
        tensor.float() for tensor in (attended.queries, attended.keys, attended.values)
    )
    heads, tokens, dim = keys.shape
    grouped = queries.view(heads, -1, tokens, dim)
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    products = (grouped @ keys[:, None].transpose(-1, -2)) * attended.scaling
    products = products.masked_fill(~causal, -math.inf)
    age = (torch.arange(tokens)[:, None] - torch.arange(tokens)).clamp_min(0)
    decay = age * log_retention(part, keys, values)[:, None]
    full = products.softmax(-1) @ values[:, None]
    thinned = (products + decay[:, None]).softmax(-1) @ values[:, None]
    target, found = (
        linear(out.flatten(0, 1).transpose(0, 1).flatten(1), projection) for out in (full, thinned)
    )
    error = (found - target).square().mean() / target.square().mean()
    retained = (decay.exp() * causal).sum(-1)
    seen = torch.arange(1, tokens + 1)
    limit = (capacity * seen).clamp_min(16.0)
    return error, ((retained - limit).clamp_min(0.0) / seen).mean()


def train(
    part: dict[str, Tensor],
    given: Sequence[Attended],
    projection: Tensor,
    capacity: float,
    epochs: int,
) -> dict[str, Tensor]:
    """Return the trained tensors: Adam, one sequence a step, the rate halved every quarter."""
    trained = {name: tensor.clone().requires_grad_() for name, tensor in part.items()}
    optimiser = torch.optim.Adam(trained.values(), lr=RATE)
    for epoch in range(epochs):
        optimiser.param_groups[0]["lr"] = RATE * 0.5 ** (epoch * 4 // epochs)
        for index in torch.randperm(len(given)).tolist():
            error, above = losses(trained, given[index], projection, capacity)
            optimiser.zero_grad()
            torch.autograd.backward(error + above)
            optimiser.step()
    return {name: tensor.detach() for name, tensor in trained.items()}
