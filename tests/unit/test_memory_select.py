"""Selection: the official rule, budgets, protection, and traces that make memory equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from namm_mm.errors import UsageError
from namm_mm.memory import attach
from namm_mm.memory.select import select
from namm_mm.policies import Budget, Threshold, create
from namm_mm.policies.base import LayerView, Policy, Selection
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric

GOLDEN = Path(__file__).parents[1] / "parity" / "golden" / "golden_select.npz"


def view(scores: torch.Tensor, lengths: torch.Tensor | None = None) -> LayerView:
    rows, heads, slots = scores.shape
    lengths = torch.full((rows, heads), slots) if lengths is None else lengths
    positions = torch.arange(slots).expand(rows, heads, slots)
    filled = torch.arange(slots) < lengths[..., None]
    nothing = torch.zeros(rows, heads, slots, 1)
    return LayerView(0, 1, nothing, nothing, positions.where(filled, -1), lengths, slots)


@pytest.mark.parametrize("limit", [None, 24])
def test_the_threshold_rule_is_the_official_one(limit: int | None) -> None:
    with np.load(GOLDEN) as data:
        scores = torch.from_numpy(data[f"sel.{limit}.score"])
        expected = data[f"sel.{limit}.idx"]
    scores = scores.reshape(1, *scores.shape[-2:])
    index, counts = select(scores, view(scores), Threshold(limit))
    assert index[0].tolist() == expected.reshape(index.shape[1:]).tolist()
    assert set(counts.flatten().tolist()) == {expected.shape[-1]}


@given(data=st.data(), per_head=st.booleans())
def test_selection_keeps_its_promises(data: Any, per_head: bool) -> None:
    """Sorted, unique, inside each head; within the budget; the newest stays."""
    rows, heads, slots = (data.draw(st.integers(1, n)) for n in (3, 3, 24))
    lengths = torch.tensor(
        data.draw(st.lists(st.integers(1, slots), min_size=rows * heads, max_size=rows * heads))
    ).view(rows, heads)
    seed = data.draw(st.integers(0, 99))
    scores = torch.randn(rows, heads, slots, generator=torch.Generator().manual_seed(seed)).round()
    size = data.draw(st.integers(1, slots))
    rules: list[Selection] = [Budget(tokens=size), Threshold(), Threshold(size)]
    for rule in rules:
        index, counts = select(scores, view(scores, lengths), rule, per_head=per_head)
        for row in range(rows):
            for head in range(heads):
                count, length = int(counts[row, head]), int(lengths[row, head])
                kept = index[row, head, :count].tolist()
                assert kept == sorted(set(kept))
                assert 1 <= count <= length
                assert kept[-1] == length - 1, "the newest token was dropped"
                if isinstance(rule, Budget):
                    assert count == min(size, length)
                worst = min(float(scores[row, head, s]) for s in kept[:-1]) if count > 1 else None
                if worst is not None and isinstance(rule, Threshold):
                    dropped = [s for s in range(length) if s not in kept]
                    assert all(float(scores[row, head, s]) <= worst for s in dropped)


@pytest.mark.parametrize("storage", ["shared", "per_head"])
def test_a_matched_budget_holds_the_same_tokens_at_every_update(storage: str) -> None:
    """Sizes of every layer, head and update, peak and final memory, in a batch too."""
    model, tokens = tiny_llama(), tiny_tokens(2, 170)

    class Half(Policy):
        name = "half"

        def __init__(self) -> None:
            super().__init__(budget=Threshold())

        def score(self, seen: LayerView) -> torch.Tensor:
            return seen.values.float().sum(-1)

    with (
        torch.no_grad(),
        attach(model, Half(), interval=32, storage=storage) as reference,
    ):
        model(tokens)
    traces = (reference.trace(0), reference.trace(1))
    assert traces[0] != traces[1]
    for name in ("h2o", "l2", "recency"):
        matched = create(name, budget=Budget(trace=traces, matched="match:half"))
        with torch.no_grad(), attach(model, matched, interval=32, storage=storage) as memory:
            model(tokens)
        for row in range(2):
            assert memory.trace(row).sizes == traces[row].sizes
            assert memory.usage(row).tokens_peak == reference.usage(row).tokens_peak
        alone = create(name, budget=Budget(trace=traces[1], matched="match:half"))
        with torch.no_grad(), attach(model, alone, interval=32, storage=storage) as single:
            model(tokens[1:])
        assert single.trace().sizes == traces[1].sizes


def test_a_fraction_is_of_the_tokens_seen() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 200)
    policy = create("recency", budget=Budget(fraction=0.25))
    with torch.no_grad(), attach(model, policy, interval=64) as memory:
        model(tokens)
    assert [sizes[0][0] for sizes in memory.trace().sizes] == [16, 32, 48]
    assert memory.kept(0)[0].tolist()[:5] == [0, 1, 2, 3, 148]


@pytest.mark.parametrize("pooled", [False, True])
def test_a_fraction_may_have_a_least_size(pooled: bool) -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 200)
    policy = create("recency", budget=Budget(fraction=0.25, least=40, pooled=pooled))
    with torch.no_grad(), attach(model, policy, interval=64, storage="per_head") as memory:
        model(tokens)
    assert [sum(sizes[0]) for sizes in memory.trace().sizes] == [80, 80, 96]


def test_random_is_a_fair_draw() -> None:
    """Each token is held equally often, and heads, layers and seeds draw differently."""
    held = torch.zeros(200)
    for seed in range(60):
        scores = create("random", seed=seed, sinks=0).score(view(torch.zeros(1, 4, 200)))
        held += (scores.argsort(descending=True) < 50).sum((0, 1))
    rates = held / held.sum() * 200
    assert float(rates.min()) > 0.5
    assert float(rates.max()) < 1.6
    first = create("random", seed=0, sinks=0).score(view(torch.zeros(1, 2, 200)))
    assert bool((first[0, 0] != first[0, 1]).any())


def test_heads_that_share_a_budget_hold_the_best_tokens_of_all() -> None:
    """Half of two heads' eight tokens, where one head has three of the four best."""
    scores = torch.tensor([[[9.0, 8.0, 7.0, 0.0], [1.0, 2.0, 3.0, 6.0]]])
    rule = Budget(fraction=0.5, pooled=True)
    index, counts = select(scores, view(scores), rule, per_head=True)
    # Tokens 0 and 1 of the first head, whose newest always stays, as does that of the second.
    assert counts.tolist() == [[3, 1]]
    assert index[0, 0].tolist() == [0, 1, 3]
    assert index[0, 1, 0] == 3
    with pytest.raises(UsageError, match=r"pool:0.5.*storage=per_head"):
        select(scores, view(scores), rule)
