"""Train the kernels of LESS for one layer (arXiv 2402.09398, section 3.2).

The loss is the mean squared error of the layer's output after its output projection, against full
attention, at positions after the first eviction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from namm_mm.residuals.less import key_features, query_features
from namm_mm.residuals.state import TINY
from research.residuals.recording import Attended

DROPOUT, RATE, START = 0.3, 1e-3, 1e-4


@dataclass(frozen=True)
class Example:
    """One sequence in one layer, made ready for many steps.

    Attributes
    ----------
    queries, keys, values
        (head, token, head_dim) float32.
    sparse, normaliser
        Attention over visible tokens: (query_head, token, head_dim), and its log-sum-exp
        (query_head, token).
    evicted
        (interval, kv_head, token) bool: older than the interval and not visible.
    target
        (token, hidden): the projected output of full attention.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    sparse: Tensor
    normaliser: Tensor
    evicted: Tensor
    target: Tensor


def make_example(attended: Attended, visible: Tensor, interval: int, projection: Tensor) -> Example:
    """Compute what does not change while kernels are trained."""
    queries, keys, values = (
        part.float() for part in (attended.queries, attended.keys, attended.values)
    )
    heads, tokens, dim = keys.shape
    grouped = queries.view(heads, -1, tokens, dim)
    products = (grouped @ keys[:, None].transpose(-1, -2)) * attended.scaling
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    full = products.masked_fill(~causal, -math.inf).softmax(-1) @ values[:, None]
    seen = visible.repeat_interleave(interval, 0)[:tokens].transpose(0, 1)[:, None] & causal
    products = products.masked_fill(~seen, -math.inf)
    older = torch.arange(tokens) < torch.arange(len(visible))[:, None] * interval
    return Example(
        queries, keys, values,
        sparse=(products.softmax(-1) @ values[:, None]).flatten(0, 1),
        normaliser=products.logsumexp(-1).flatten(0, 1),
        evicted=~visible & older[:, None],
        target=projected(full.flatten(0, 1), projection),
    )  # fmt: skip


def projected(out: Tensor, projection: Tensor) -> Tensor:
    """(token, hidden) of attention output (query_head, token, head_dim)."""
    return linear(out.transpose(0, 1).flatten(1), projection)


def joined(
    part: Mapping[str, Tensor], example: Example, interval: int, drop: float = 0.0
) -> Tensor:
    """Attention over visible tokens joined with the state of evicted ones, dense."""
    group = example.queries.shape[0] // example.keys.shape[0]
    asked = query_features(part, example.queries, drop)
    held = key_features(part, example.keys, drop)
    out = [example.sparse[:, :interval]]
    for number in range(1, len(example.evicted)):
        now = slice(number * interval, (number + 1) * interval)
        gone = held * example.evicted[number][..., None]
        values = (gone.transpose(-1, -2) @ example.values).repeat_interleave(group, 0)
        weights = gone.sum(1).repeat_interleave(group, 0)
        normaliser = (asked[:, now] @ weights[..., None])[..., 0].clamp_min(TINY**0.5).log()
        total = torch.logaddexp(normaliser, example.normaliser[:, now])
        kept = (example.normaliser[:, now] - total).exp()[..., None] * example.sparse[:, now]
        out.append(kept + (-total).exp()[..., None] * (asked[:, now] @ values))
    return torch.cat(out, 1)


def error(out: Tensor, example: Example, interval: int, projection: Tensor) -> Tensor:
    """Mean squared error of the projected output after the first interval."""
    return (projected(out, projection) - example.target)[interval:].square().mean()


def new_part(
    query_heads: int, kv_heads: int, dim: int, hidden: int, features: int
) -> dict[str, Tensor]:
    """Tensors before training: uniform, the scales at 1e-4 as published."""
    shapes = {
        "a1": (query_heads, dim, hidden), "a2": (query_heads, hidden, features),
        "b1": (kv_heads, dim, hidden), "b2": (kv_heads, hidden, features),
        "b3": (kv_heads, features, features),
    }  # fmt: skip
    part = {
        name: torch.empty(shape).uniform_(-1, 1) * math.sqrt(6 / (shape[1] + shape[2]))
        for name, shape in shapes.items()
    }
    scale = torch.full((kv_heads, 1, features), START)
    return {**part, "s1": scale, "s2": scale.clone()}


def train(
    part: dict[str, Tensor],
    examples: Sequence[Example],
    interval: int,
    projection: Tensor,
    epochs: int,
) -> dict[str, Tensor]:
    """Return the trained tensors: Adam, two sequences a step, the rate halved every quarter."""
    trained = {name: tensor.clone().requires_grad_() for name, tensor in part.items()}
    optimiser = torch.optim.Adam(trained.values(), lr=RATE)
    size = sum(float(e.target[interval:].square().mean()) for e in examples) / len(examples)
    for epoch in range(epochs):
        optimiser.param_groups[0]["lr"] = RATE * 0.5 ** (epoch * 4 // epochs)
        order = torch.randperm(len(examples)).tolist()
        for batch in (order[i : i + 2] for i in range(0, len(order), 2)):
            loss = torch.stack(
                [
                    error(
                        joined(trained, examples[i], interval, DROPOUT),
                        examples[i],
                        interval,
                        projection,
                    )
                    for i in batch
                ]
            ).sum()
            optimiser.zero_grad()
            torch.autograd.backward(loss / size)
            optimiser.step()
    return {name: tensor.detach() for name, tensor in trained.items()}
