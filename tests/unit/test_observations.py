"""An observation tells a policy the attention of the model, through evictions and in batches."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from namm_mm_melody.readers import Readers
from replay import replay, visible_after
from torch import Tensor

from namm_mm.errors import UsageError
from namm_mm.memory import attach
from namm_mm.memory.observer import observer_for
from namm_mm.observations import DecayedSums, LastQueries, Observation
from namm_mm.policies import Budget, Policy
from namm_mm.policies.base import LayerView
from namm_mm.testing import check_policy
from namm_mm.testing.tiny import TINY, tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric

INTERVAL = 32


@dataclass(frozen=True)
class AskedLately(Policy):
    """The tokens that the last queries look at; remembers what it was told."""

    name: ClassVar[str] = "asked_lately"
    needs: ClassVar[LastQueries] = LastQueries(8)
    seen: list[LayerView] = field(default_factory=list, repr=False, compare=False)

    def score(self, view: LayerView) -> Tensor:
        self.seen.append(view)
        weights = view.statistics["last_queries"]
        rows, heads, _ = view.positions.shape
        return weights.view(rows, heads, -1, *weights.shape[2:]).mean((2, 3))


@pytest.mark.parametrize("storage", ["shared", "per_head"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_last_queries_are_the_weights_of_the_replay(name: str, storage: str) -> None:
    model, tokens = TINY[name](), tiny_tokens(1, 5 * INTERVAL)
    policy = AskedLately(budget=Budget(tokens=24))
    visible = visible_after(model, tokens, policy, interval=INTERVAL, storage=storage)
    policy.seen.clear()
    with torch.no_grad():
        with replay(model, visible) as weights:
            model(tokens, use_cache=False)
        with attach(model, policy, interval=INTERVAL, storage=storage):
            model(tokens[:, :-7])
    assert len(policy.seen) == 2 * 4
    for view in policy.seen:
        heads = view.positions.shape[1]
        told = view.statistics["last_queries"]
        told = told.view(1, heads, -1, *told.shape[2:]).mean(2)
        for head in range(heads):
            kept = view.positions[0, head, : int(view.lengths[0, head])]
            expected = weights[view.layer][0, head, view.seen - 8 : view.seen, kept]
            got = told[0, head, :, : len(kept)]
            torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_last_queries_of_a_sliding_window_stay_inside_it() -> None:
    model, tokens = TINY["mistral"](sliding_window=20), tiny_tokens(1, 2 * INTERVAL)
    policy = AskedLately(budget="tokens:24")
    with torch.no_grad(), attach(model, policy, interval=INTERVAL):
        model(tokens)
    for view in policy.seen:
        weights = view.statistics["last_queries"]
        weights = weights.view(1, 2, 2, *weights.shape[2:])
        asking = torch.arange(view.seen - 8, view.seen)[:, None]
        old = (view.positions[:, :, None] <= asking - 20)[:, :, None].expand_as(weights)
        assert float(weights[old].abs().max()) == 0.0
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_decoding_tells_what_the_prompt_tells() -> None:
    """Queries that come one by one wait for each other, and are told all the same."""
    model, tokens = tiny_llama(), tiny_tokens(1, 3 * INTERVAL)
    told = []
    for step in (3 * INTERVAL, 1, 7):
        policy = AskedLately(budget="tokens:24")
        with torch.no_grad(), attach(model, policy, interval=INTERVAL) as memory:
            for start in range(0, 3 * INTERVAL, step):
                part = tokens[:, start : start + step]
                model(part, past_key_values=memory.cache) if start else model(part)
        told.append({(v.layer, v.seen): v.statistics["last_queries"] for v in policy.seen})
    assert len(told[0]) == 2 * 3
    for other in told[1:]:
        assert other.keys() == told[0].keys()
        for place, weights in told[0].items():
            torch.testing.assert_close(other[place], weights, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("policy", [AskedLately(budget="tokens:24"), Readers(budget="tokens:24")])
def test_a_row_is_told_alone_what_it_is_told_in_a_padded_batch(policy: Policy) -> None:
    model, tokens = tiny_llama(), tiny_tokens(3, 90)
    padding = [0, 13, 40]
    mask = torch.ones_like(tokens)
    for row, count in enumerate(padding):
        mask[row, :count] = 0
    with torch.no_grad(), attach(model, policy, interval=INTERVAL) as together:
        model.generate(
            tokens, attention_mask=mask, max_new_tokens=20, min_new_tokens=20, do_sample=False
        )
    for row, count in enumerate(padding):
        alone = tokens[row : row + 1, count:]
        with torch.no_grad(), attach(model, policy, interval=INTERVAL) as single:
            model.generate(
                alone,
                attention_mask=torch.ones_like(alone),
                max_new_tokens=20,
                min_new_tokens=20,
                do_sample=False,
            )
        for layer in range(2):
            for mine, other in zip(together.kept(layer, row), single.kept(layer), strict=True):
                assert mine.tolist() == other.tolist()


@pytest.mark.parametrize("policy", [AskedLately(), Readers()])
def test_beams_take_their_observations_along(policy: Policy) -> None:
    """With one prompt repeated, beam search of identical beams equals greedy search."""
    model, tokens = tiny_llama(), tiny_tokens(1, 70)
    with torch.no_grad(), attach(model, policy, interval=INTERVAL) as memory:
        found = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            num_beams=3,
            max_new_tokens=40,
            min_new_tokens=40,
            do_sample=False,
        )
        assert memory.rows == 3
    assert found.shape == (1, 110)


def test_reported_bytes_hold_the_queries_until_the_eviction_that_asks_them() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 3 * INTERVAL + 16)
    sizes, updated = {}, set()
    for count in (8, 16):

        class Asked(AskedLately):
            needs = LastQueries(count)

        with torch.no_grad(), attach(model, Asked(budget="tokens:24"), interval=INTERVAL) as memory:
            model(tokens)
        sizes[count] = memory.usage().bytes_final
        updated.add(memory.usage().live_updated)
    # 2 layers, 4 query heads of 8 float32 numbers, 8 queries more
    assert sizes[16] - sizes[8] == 2 * 4 * 8 * 4 * 8
    assert updated == {2 * 2 * 24 * (2 * 8 * 4 + 4)}


def test_queries_that_the_next_eviction_asks_too_are_held_over_this_one() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 3 * INTERVAL)

    class Asked(AskedLately):
        needs = LastQueries(INTERVAL + 8)

    with torch.no_grad(), attach(model, Asked(budget="tokens:24"), interval=INTERVAL) as memory:
        model(tokens)
    # 2 layers, 4 query heads of 8 float32 numbers, 8 queries
    assert memory.usage().live_updated == 2 * 2 * 24 * (2 * 8 * 4 + 4) + 2 * 4 * 8 * 4 * 8


def test_a_third_party_brings_an_observation_of_its_own() -> None:
    promises = check_policy(Readers())
    assert len(promises) == 14
    model, tokens = tiny_llama(), tiny_tokens(1, 3 * INTERVAL)
    with torch.no_grad():
        model.set_attn_implementation("eager")
        attention = model(tokens, output_attentions=True).attentions[0][0]
        model.set_attn_implementation("sdpa")
    with torch.no_grad(), attach(model, Readers(recents=0, budget=0.25), interval=96) as memory:
        model(tokens)
    mean = attention.unflatten(0, (2, -1)).mean(1)  # over the query group
    share = 1.0 / torch.arange(1, 97)[:, None]
    counts = (mean > share).sum(1).float()
    counts[:, -1] = 1e9  # the newest always stays
    order = counts.argsort(dim=-1, descending=True, stable=True)[:, :24].sort(dim=-1).values
    assert [head.tolist() for head in memory.kept(0)] == order.tolist()


def test_wrong_observations_are_refused_before_the_first_token() -> None:
    with pytest.raises(UsageError, match=r"wrong number of last queries: got 0"):
        LastQueries(0)
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        DecayedSums(1.5)

    class Strange(Observation):
        name = "strange"

    with pytest.raises(UsageError, match="subclass of WeightsObservation or of QueryObservation"):
        observer_for(Strange())


def test_observations_do_not_know_the_memory() -> None:
    for module in ("base", "column_sums", "last_queries", "spectrogram"):
        source = importlib.import_module(f"namm_mm.observations.{module}").__dict__
        assert not [
            name for name, value in source.items() if "memory" in getattr(value, "__module__", "")
        ]
