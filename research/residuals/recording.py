"""Queries, keys and values of a frozen model over whole sequences, and what a policy keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from namm_mm.memory.layer import LayerMemory, Segment, cut
from namm_mm.memory.rules import Rules
from namm_mm.memory.swapping import swapped_attention
from namm_mm.memory.watch import Update
from namm_mm.observations.formula import Formula
from namm_mm.policies.base import Policy
from namm_mm.tasks.long_text import sources


@dataclass(frozen=True)
class Attended:
    """One layer's attention over one sequence, rotary embedding applied.

    Attributes
    ----------
    queries, keys, values
        (head, token, head_dim), bfloat16 to save room.
    scaling
        Factor on the products.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    scaling: float


def record(model: Any, sequences: Sequence[Tensor | Mapping[str, Tensor]]) -> list[list[Attended]]:
    """Run `sequences` with the full cache; return ``[layer][sequence]``.

    A sequence is tokens (1, token), or what the model's forward is given.
    """
    config = model.config.get_text_config(decoder=True)
    layers: list[list[Attended]] = [[] for _ in range(config.num_hidden_layers)]

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, _mask: Any, scaling: float,
        **_rest: Any,
    ) -> tuple[Tensor, None]:  # fmt: skip
        layers[module.layer_idx].append(Attended(_half(query), _half(key), _half(value), scaling))
        out = scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=True
        )
        return out.transpose(1, 2), None

    with torch.no_grad(), swapped_attention(config, "recording", attention, lambda **_: None):
        for one in sequences:
            given = {"input_ids": one} if isinstance(one, Tensor) else one
            model(**given, use_cache=False)
    return layers


def _half(part: Tensor) -> Tensor:
    return part[0].bfloat16().clone()


def visible(attended: Attended, policy: Policy, interval: int, layer: int, layers: int) -> Tensor:
    """What the queries of each interval may look at when `policy` evicts after every interval.

    Returns
    -------
    Tensor
        (interval, kv_head, token) bool: kept tokens, and those of the interval itself.
    """
    found: list[Tensor] = []
    tokens = attended.keys.shape[1]
    rules = Rules(policy, interval, False, True, lambda update: found.append(_kept(update, tokens)))
    memory = LayerMemory(layer, layers, rules)
    queries, keys, values = (
        part[None].float() for part in (attended.queries, attended.keys, attended.values)
    )
    segment = Segment(0, torch.arange(1), None, 0, cut(tokens, 0, rules))
    with torch.no_grad():
        memory.attend(memory.open(keys, values), segment, queries, keys, values,
                      Formula(attended.scaling))  # fmt: skip
    nothing = torch.zeros(keys.shape[1], tokens, dtype=torch.bool)
    count = -(-tokens // interval)  # the last interval may be cut off
    kept = torch.stack([nothing, *found][:count])
    own = torch.arange(tokens) // interval == torch.arange(count)[:, None]
    return kept | own[:, None]


def _kept(update: Update, tokens: int) -> Tensor:
    """(kv_head, token) bool."""
    positions = update.kept[0]
    table = torch.zeros(positions.shape[0], tokens + 1, dtype=torch.bool)
    table.scatter_(1, positions.where(positions >= 0, tokens).long(), value=True)
    return table[:, :tokens]


def cut_prose(tokenizer: Any, split: str, count: int, tokens: int) -> Iterator[Tensor]:
    """Yield `count` sequences (1, token) of the prose of the long-text task."""
    text = "\n".join(p for document in sources.prose(split) for p in document.paragraphs)
    return cut_text(tokenizer, text, count, tokens)


def cut_text(tokenizer: Any, text: str, count: int, tokens: int) -> Iterator[Tensor]:
    """Yield `count` sequences (1, token) spread evenly over `text`."""
    ids = tokenizer(text)["input_ids"]
    step = max(1, (len(ids) - tokens) // max(1, count - 1))
    for start in range(0, step * count, step):
        yield torch.tensor([ids[start : start + tokens]])
