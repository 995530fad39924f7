"""Budgets of tokens and of bytes: how layers, heads and policies share them."""

from __future__ import annotations

import pytest
import torch

from namm_mm.memory import attach
from namm_mm.policies import create
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
    assert trace.numbers_per_token == 33
    token = 2 * width * 4 + 4
    for name, own in (("recency", 0), ("h2o", 1)):
        from namm_mm.policies.budgets import parse

        budget = parse("match_bytes:namm", {"namm": (trace,)})
        assert budget.describe() == "match_bytes:namm"
        with torch.no_grad(), attach(model, create(name, budget=budget), interval=32) as memory:
            model(tokens)
        expected = 40 * (token + 4 * 33) // (token + 4 * own)
        seen = [32 * (update + 1) for update in range(5)]
        assert [sizes[1][0] for sizes in memory.trace().sizes] == [min(s, expected) for s in seen]


def test_a_budget_in_bytes_gives_every_policy_the_same_bytes() -> None:
    """Of the full cache, up to one token for each head."""
    model, tokens = tiny_llama(), tiny_tokens(1, 160)
    token = 2 * 8 * 4 + 4
    full = 2 * 2 * 160 * token
    for name in ("recency", "h2o", "namm", "keydiff"):
        for words in ("bytes:0.4", "pool_bytes:0.4"):
            policy = create(name, budget=words)
            assert policy.selection.describe() == words
            with (
                torch.no_grad(),
                attach(model, policy, interval=32, storage="per_head") as memory,
            ):
                model(tokens)
            live = memory.usage().live_final
            own = token + 4 * policy.numbers_per_token
            assert live is not None
            assert 0 <= 0.4 * full - live <= 4 * own
    adakv = create("adakv", over="h2o", budget="bytes:0.4")
    assert adakv.selection.describe() == "pool_bytes:0.4"
