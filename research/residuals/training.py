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
from research.residuals.recording import Attended

DROPOUT, RATE, START = 0.3, 1e-3, 1e-4
SMALLEST = 1e-12
"""Of a normaliser before its logarithm, whose gradient must stay finite."""


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
    sparse, normaliser = attention_over(visible, products, values, interval)
    return Example(
        queries, keys, values, sparse, normaliser, evicted_of(visible, interval),
        target=projected(full.flatten(0, 1), projection),
    )  # fmt: skip


def attention_over(
    visible: Tensor, products: Tensor, values: Tensor, interval: int
) -> tuple[Tensor, Tensor]:
    """Attention over what `visible` (interval, kv_head, token) shows, and its log-sum-exp.

    `products` are (kv_head, group, query, token), scaled. Returns (query_head, token, head_dim) and
    (query_head, token).
    """
    tokens = products.shape[-1]
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    seen = visible.repeat_interleave(interval, 0)[:tokens].transpose(0, 1)[:, None] & causal
    products = products.masked_fill(~seen, -math.inf)
    out = (products.softmax(-1) @ values[:, None]).flatten(0, 1)
    return out, products.logsumexp(-1).flatten(0, 1)


def evicted_of(visible: Tensor, interval: int) -> Tensor:
    """(interval, kv_head, token) bool: tokens older than the interval that are not visible."""
    older = torch.arange(visible.shape[-1]) < torch.arange(len(visible))[:, None] * interval
    return ~visible & older[:, None]


def with_state(
    asked: Tensor, held: Tensor, evicted: Tensor, values: Tensor,
    kept: tuple[Tensor, Tensor], interval: int,
) -> Tensor:  # fmt: skip
    """Join attention over visible tokens with the state of evicted ones, dense.

    Parameters
    ----------
    asked, held
        ``phi`` (query_head, token, feature) and ``psi`` (kv_head, token, feature).
    evicted, values
        (interval, kv_head, token) bool and (kv_head, token, head_dim).
    kept
        What :func:`attention_over` returned.
    """
    (sparse, normaliser), group = kept, len(asked) // len(held)
    out = [sparse[:, :interval]]
    for number in range(1, len(evicted)):
        now = slice(number * interval, (number + 1) * interval)
        gone = held * evicted[number][..., None]
        state = (gone.transpose(-1, -2) @ values).repeat_interleave(group, 0)
        weights = gone.sum(1).repeat_interleave(group, 0)
        trace = (asked[:, now] @ weights[..., None])[..., 0].clamp_min(SMALLEST).log()
        total = torch.logaddexp(trace, normaliser[:, now])
        scale = (normaliser[:, now] - total).exp()[..., None]
        out.append(scale * sparse[:, now] + (-total).exp()[..., None] * (asked[:, now] @ state))
    return torch.cat(out, 1)


def projected(out: Tensor, projection: Tensor) -> Tensor:
    """(token, hidden) of attention output (query_head, token, head_dim)."""
    return linear(out.transpose(0, 1).flatten(1), projection)


def joined(
    part: Mapping[str, Tensor], example: Example, interval: int, drop: float = 0.0
) -> Tensor:
    """Attention over visible tokens joined with the state of evicted ones, dense."""
    return with_state(
        query_features(part, example.queries, drop), key_features(part, example.keys, drop),
        example.evicted, example.values, (example.sparse, example.normaliser), interval,
    )  # fmt: skip


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
