"""The policies of 2024 to 2026 score as their formulas say, recomputed densely after evictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from namm_mm.memory import attach
from namm_mm.memory.layer import LayerMemory
from namm_mm.policies import Policy, create
from namm_mm.policies.base import LayerView
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric
INTERVAL, TOKENS = 32, 150


@dataclass
class Seen:
    """One eviction: what the policy saw, what it scored, and all queries so far."""

    view: LayerView
    scores: Tensor
    queries: Tensor  # (row, query_head, seen, head_dim)


def evictions(
    policy: Policy, monkeypatch: pytest.MonkeyPatch, storage: str = "per_head", rows: int = 2
) -> list[Seen]:
    """Run a small Llama in two calls; return all evictions of its last layer, in order."""
    found: list[Seen] = []
    queries: list[Tensor] = []
    attending, scoring = LayerMemory.attend, type(policy).score

    def attend(self: LayerMemory, memory: Any, segment: Any, given: Tensor, *rest: Any) -> Tensor:
        if self.layer == 1:
            queries.append(given)
        return attending(self, memory, segment, given, *rest)

    def score(self: Policy, view: LayerView) -> Tensor:
        scores = scoring(self, view)
        if view.layer == 1:
            found.append(Seen(view, scores, torch.cat(queries, 2)[:, :, : view.seen]))
        return scores

    monkeypatch.setattr(LayerMemory, "attend", attend)
    monkeypatch.setattr(type(policy), "score", score)
    model, tokens = tiny_llama(), tiny_tokens(rows, TOKENS)
    with torch.no_grad(), attach(model, policy, interval=INTERVAL, storage=storage) as memory:
        model(tokens[:, :100])
        model(tokens[:, 100:], past_key_values=memory.cache)
    monkeypatch.undo()
    assert len(found) == TOKENS // INTERVAL
    return found


def weights(seen: Seen, row: int, head: int, query: int) -> Tensor:
    """(slot,) float64: attention of query head `head` at position `query` over cached tokens."""
    kv = head // 2
    length = int(seen.view.lengths[row, kv])
    keys = seen.view.keys[row, kv, :length].double()
    products = keys @ seen.queries[row, head, query].double() * keys.shape[-1] ** -0.5
    products[seen.view.positions[row, kv, :length] > query] = float("-inf")
    shares: Tensor = products.softmax(0)
    return shares


def snapkv(seen: Seen, row: int, head: int) -> Tensor:
    limit = int(seen.view.limits[row, head])  # type: ignore[index]
    window = min(32, limit // 2)
    length = int(seen.view.lengths[row, head])
    asked = range(seen.view.seen - window, seen.view.seen)
    mean = torch.stack(
        [weights(seen, row, q, t) for q in (2 * head, 2 * head + 1) for t in asked]
    ).mean(0)
    before = length - window
    padded = torch.zeros(before + 4, dtype=torch.float64)
    padded[2:-2] = mean[:before]
    return torch.stack([padded[i : i + 5].mean() for i in range(before)])


def tova(seen: Seen, row: int, head: int) -> Tensor:
    mean = torch.zeros(seen.view.seen, dtype=torch.float64)
    for query_head in range(4):
        length = int(seen.view.lengths[row, query_head // 2])
        place = seen.view.positions[row, query_head // 2, :length]
        mean[place] += weights(seen, row, query_head, seen.view.seen - 1) / 4
    return mean[seen.view.positions[row, head, : int(seen.view.lengths[row, head])]]


def keydiff(seen: Seen, row: int, head: int) -> Tensor:
    keys = seen.view.keys[row, head, : int(seen.view.lengths[row, head])].double()
    unit = keys / keys.norm(dim=-1, keepdim=True)
    anchor = unit.mean(0)
    cosine: Tensor = (unit @ anchor) / anchor.norm()
    return -cosine


def lagkv(seen: Seen, row: int, head: int) -> Tensor:
    length = int(seen.view.lengths[row, head])
    chunks = (length - 4) // 8
    out = torch.ones(length, dtype=torch.float64)
    for chunk in range(chunks - 1):
        start = 4 + 8 * chunk
        total = torch.zeros(8, dtype=torch.float64)
        for states in (seen.view.keys, seen.view.values):
            own = states[row, head, start : start + 8].double()
            following = states[row, head, start + 8 : start + 16].double()
            low, high = following.min(0).values, following.max(0).values
            total += ((own - low) / (high - low)).std(-1).softmax(0) / 2
        for rank, token in enumerate(sorted(range(8), key=lambda i: float(total[i]))):
            out[start + token] = rank / 8
    return out


def protected(seen: Seen, row: int, head: int) -> Tensor:
    positions = seen.view.positions[row, head, : int(seen.view.lengths[row, head])].double()
    limit = int(seen.view.limits[row, head])  # type: ignore[index]
    return positions + seen.view.seen * (positions < max(1, round(limit * 0.1)))


def expected_attention(seen: Seen, row: int, head: int) -> Tensor:
    model, dim = tiny_llama().double(), 8

    def rotations(first: int, count: int) -> Tensor:
        cosine, sine = model.model.rotary_emb(
            torch.zeros(1, 1, 1, dtype=torch.float64), torch.arange(first, first + count)[None]
        )
        half = torch.eye(dim // 2, dtype=torch.float64)
        nothing = torch.zeros(dim // 2, dim // 2, dtype=torch.float64)
        turn = torch.cat([torch.cat([nothing, -half], 1), torch.cat([half, nothing], 1)])
        eye = torch.eye(dim, dtype=torch.float64)
        found: Tensor = cosine[0, :, :, None] * eye + sine[0, :, :, None] * turn
        return found

    length = int(seen.view.lengths[row, head])
    keys = seen.view.keys[row, head, :length].double()
    sinks = seen.view.positions[row, head, :length] < 4
    ahead = rotations(seen.view.seen, 512).mean(0)
    total = torch.zeros(length, dtype=torch.float64)
    for query_head in (2 * head, 2 * head + 1):
        turned = seen.queries[row, query_head, 4:].double()
        plain = (rotations(4, len(turned)).transpose(-1, -2) @ turned[..., None])[..., 0]
        mean, centred = ahead @ plain.mean(0), plain - plain.mean(0)
        covariance = ahead @ (centred.T @ centred / len(plain)) @ ahead.T
        logits = keys @ mean / dim**0.5 + ((keys @ covariance) * keys).sum(-1) / (2 * dim)
        total += logits.masked_fill(sinks, float("-inf")).softmax(0) / 2
    norms: Tensor = seen.view.values[row, head, :length].double().norm(dim=-1)
    return (total + 0.02) * norms


def criticalkv(seen: Seen, row: int, head: int) -> Tensor:
    """Over tova: the best half of the budget by its scores, then those times the L1 norm."""
    base = tova(seen, row, head)
    weight = tiny_llama().model.layers[1].self_attn.o_proj.weight.double()
    values = seen.view.values[row, head, : len(base)].double()
    norms = torch.zeros(len(base), dtype=torch.float64)
    for query_head in (2 * head, 2 * head + 1):
        norms += (values @ weight[:, 8 * query_head : 8 * query_head + 8].T).abs().sum(-1) / 2
    scores = (base + 1e-4) * norms
    highest = scores.max()
    first = base.topk(min(len(base), int(seen.view.limits[row, head]) // 2)).indices  # type: ignore[index]
    scores[first] = highest + 1
    return scores


def infinipot_v(seen: Seen, row: int, head: int) -> Tensor:
    """Two tokens of text, frames of 16 patches, then text again."""
    view, layer = seen.view, 1
    length = int(view.lengths[row, head])
    positions = view.positions[row, head, :length].tolist()
    place = {p: divmod(p - 2, 16) for p in range(2, 130)}
    keys = torch.nn.functional.normalize(view.keys[row, head, :length].double(), dim=-1)
    frames = sum(1 for p in range(view.seen) if p in place and place[p][1] == 0)
    oldest = frames - max(1, round(frames / 4))
    norms = view.values[row, head, :length].double().norm(dim=-1)
    norms = norms * torch.tensor([float(p in place) for p in positions])
    width = (7, 5, 3, 1)[4 * layer // view.layers] // 2
    pooled = torch.stack([norms[max(0, i - width) : i + width + 1].max() for i in range(length)])
    scores, over_time = pooled / pooled.max(), {}
    for i, position in enumerate(positions):
        if position not in place:
            scores[i] = 3 + position
            continue
        frame, patch = place[position]
        same = [
            float(keys[i] @ keys[j])
            for j, other in enumerate(positions)
            if other in place and place[other][0] >= oldest and place[other][1] == patch
        ]
        mean = sum(same) / len(same) if same else 0.0
        over_time[i] = -mean if frame < oldest else 2 + position / 130
    left = max(0, int(view.limits[row, head]) - sum(p not in place for p in positions))  # type: ignore[index]
    for i in sorted(over_time, key=lambda i: -over_time[i])[: left // 2]:
        scores[i] = 2
    return scores


FRAMES = tuple(divmod(p - 2, 16) if p >= 2 else None for p in range(130))


CASES: dict[str, tuple[dict[str, Any], Callable[[Seen, int, int], Tensor]]] = {
    "snapkv": ({}, snapkv),
    "tova": ({}, tova),
    "keydiff": ({}, keydiff),
    "lagkv": ({"lag": 8}, lagkv),
    "protected": ({}, protected),
    "expected_attention": ({}, expected_attention),
    "criticalkv": ({"over": "tova"}, criticalkv),
    "infinipot_v": ({"frames": FRAMES}, infinipot_v),
}


@pytest.mark.parametrize("budget", ["tokens:40", "pool:0.4"])
@pytest.mark.parametrize("name", CASES)
def test_scores_after_evictions_are_those_of_the_formula(
    name: str, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, formula = CASES[name]
    for seen in evictions(create(name, budget=budget, **options), monkeypatch):
        for row in range(2):
            for head in range(2):
                expected = formula(seen, row, head).float()
                found = seen.scores[row, head, : len(expected)]
                torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
