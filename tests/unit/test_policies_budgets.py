"""Budgets of tokens and of bytes: how layers, heads and policies share them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from less_kernels import random_kernels

from namm_mm.memory import attach
from namm_mm.policies import POLICIES, create
from namm_mm.policies.base import Policy
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric


def test_tova_holds_one_set_of_tokens_in_all_heads() -> None:
    model = tiny_llama()
    with torch.no_grad(), attach(model, create("tova", budget="tokens:24"), interval=32) as memory:
        model(tiny_tokens(1, 150))
    first, second = (head.tolist() for head in memory.kept(1))
    assert first == second


def test_adakv_spends_the_layer_s_budget_where_scores_are_high_and_no_head_falls_below_its_floor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = create("adakv", over={"name": "keydiff"}, budget="tokens:30", floor=0.5)
    assert policy.storage == "per_head"
    model = tiny_llama()
    with torch.no_grad(), attach(model, policy, interval=32, storage="per_head") as memory:
        model(tiny_tokens(1, 160))
    for sizes in memory.trace().sizes[1:]:
        for layer in sizes:
            assert sum(layer) == 60
            assert min(layer) >= 15
    assert any(layer[0] != layer[1] for sizes in memory.trace().sizes for layer in sizes)


def test_pyramid_gives_the_lowest_layer_most_and_keeps_the_mean() -> None:
    policy = create("pyramid", over="recency", budget="tokens:40", beta=4)
    model = tiny_llama()
    with torch.no_grad(), attach(model, policy, interval=32) as memory:
        model(tiny_tokens(1, 160))
    low, high = (layer[0] for layer in memory.trace().sizes[-1])
    assert (low, high) == (70, 10)


def test_equal_bytes_give_a_policy_that_remembers_less_more_tokens() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 160)
    width = model.config.hidden_size // model.config.num_attention_heads
    with (
        torch.no_grad(),
        attach(model, create("namm", budget="tokens:40"), interval=32, storage="shared") as memory,
    ):
        model(tokens)
    trace = memory.trace()
    assert trace.bytes_per_token == 34
    token = 2 * width * 4 + 4
    for name, own in (("recency", 0), ("h2o", 4)):
        from namm_mm.policies.budgets import parse

        budget = parse("match_bytes:namm", {"namm": (trace,)})
        assert budget.describe() == "match_bytes:namm"
        with torch.no_grad(), attach(model, create(name, budget=budget), interval=32) as memory:
            model(tokens)
        expected = 40 * (token + 34) // (token + own)
        seen = [32 * (update + 1) for update in range(5)]
        assert [sizes[1][0] for sizes in memory.trace().sizes] == [min(s, expected) for s in seen]


LAYERS = 6

ELSEWHERE = {"full", "window", "kvzip", "infinipot_v", "trimkv"}
"""Without a size, without a cache, for a second pass, for frames, and for one model."""


def every_policy(budget: str) -> Iterator[Policy]:
    for name in sorted(set(POLICIES) - ELSEWHERE):
        if name == "less":
            maps = random_kernels(dim=8, layers=LAYERS, features=1)
            yield create(name, over="h2o", kernels=maps, budget=budget)
        else:
            yield create(name, budget=budget)
        if name in ("h2o", "namm", "keydiff"):
            yield create(name, budget=f"pool_{budget}")


@pytest.mark.parametrize("budget", ["bytes:0.1", "bytes:0.4", "bytes:0.6"])
def test_right_after_the_last_update_every_policy_holds_the_same_bytes(budget: str) -> None:
    """Never above the budget, and below by 3 % or one token of each head: prompts end anywhere."""
    model, tokens = tiny_llama(num_hidden_layers=LAYERS), tiny_tokens(1, 410)
    token, part = 2 * 8 * 4 + 4, float(budget.partition(":")[2])
    heads, updated = LAYERS * 2, 384
    allowed = part * heads * updated * token
    for policy in every_policy(budget):
        with torch.no_grad(), attach(model, policy, interval=64, storage="per_head") as memory:
            model(tokens)
        use = memory.usage()
        assert (use.seen_updated, use.seen) == (updated, 410)
        assert use.live_updated is not None
        one = heads * (token + policy.bytes_per_token)
        missing = allowed - use.live_updated
        assert 0 <= missing <= max(one, 0.03 * allowed), policy.name


def test_layers_that_l2_keeps_whole_are_paid_for_by_the_others() -> None:
    model, tokens = tiny_llama(num_hidden_layers=LAYERS), tiny_tokens(1, 320)
    with torch.no_grad(), attach(model, create("l2", budget="bytes:0.6"), interval=64) as memory:
        model(tokens)
    assert [layer[0] for layer in memory.trace().sizes[-1]] == [320, 320, 128, 128, 128, 128]


def test_adakv_shares_a_budget_in_bytes() -> None:
    adakv = create("adakv", over="h2o", budget="bytes:0.4")
    assert adakv.selection.describe() == "pool_bytes:0.4"
