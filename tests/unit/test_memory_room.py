"""A cache costs what it holds: room does not grow with the interval, and old caches are freed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from namm_mm.memory import attach
from namm_mm.memory.cache import EvictingCache
from namm_mm.memory.slots import LEAST_ROOM, room_behind
from namm_mm.observations import ColumnSums
from namm_mm.policies import H2O, Full, Policy, Recency, create
from namm_mm.policies.base import LayerView
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

STORAGES = ("shared", "per_head")


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def live_caches() -> int:
    return sum(type(thing) is EvictingCache for thing in gc.get_objects())


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("generates", [False, True])
def test_old_caches_are_freed_without_the_garbage_collector(generates: bool) -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 40)
    with torch.no_grad(), attach(model, H2O(budget="tokens:16"), interval=16):
        for _ in range(40):
            if generates:
                model.generate(tokens, max_new_tokens=4, do_sample=False, pad_token_id=0)
            else:
                model(tokens)
            assert live_caches() == 1
    assert live_caches() == 0


@pytest.mark.parametrize("storage", STORAGES)
def test_full_reports_the_same_bytes_at_any_interval(storage: str) -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 200)
    found = set()
    for interval in (16, 512, 10_000_000):
        with torch.no_grad(), attach(model, Full(), interval=interval, storage=storage) as memory:
            model(tokens)
            for _ in range(20):
                model(tokens[:, :1], past_key_values=memory.cache)
        found.add((memory.usage().bytes_peak, memory.usage().bytes_final))
    ((peak, final),) = found
    # 2 layers, 2 heads, keys and values of 8 float32 numbers and a position of 4 bytes
    live = 220 * 2 * 2 * (2 * 8 * 4 + 4)
    assert live <= final == peak <= live * 1.15


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("policy", [Recency(budget="tokens:64"), H2O(budget=0.5)])
def test_a_long_interval_costs_what_the_default_costs(storage: str, policy: Recency | H2O) -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 200)
    found = []
    for interval in (512, 10_000_000):
        with torch.no_grad(), attach(model, policy, interval=interval, storage=storage) as memory:
            model(tokens)
        found.append(memory.usage())
    assert found[0] == found[1]


@pytest.mark.parametrize("storage", STORAGES)
def test_right_before_and_after_an_eviction_nothing_is_spare(storage: str) -> None:
    """Room is never made for tokens that come after the next eviction."""
    model, tokens = tiny_llama(), tiny_tokens(1, 96)
    each = 2 * 2 * (2 * 8 * 4 + 4)
    policy = Recency(budget="tokens:64")
    with torch.no_grad(), attach(model, policy, interval=32, storage=storage) as memory:
        model(tokens)
        # the first of two layers is done when the second holds most
        assert memory.usage().bytes_peak == (96 + 64 + LEAST_ROOM) * each / 2
        assert memory.usage().bytes_final == (64 + LEAST_ROOM) * each
        for _ in range(31):
            model(tokens[:, :1], past_key_values=memory.cache)
        assert memory.usage().bytes_final == 96 * each


def test_room_is_an_eighth_and_a_power_of_two() -> None:
    assert [room_behind(held, None) for held in (0, 8, 255, 256, 1000, 4096)] == [
        LEAST_ROOM, LEAST_ROOM, LEAST_ROOM, 32, 64, 512,
    ]  # fmt: skip
    assert [room_behind(4096, left) for left in (0, 7, 10_000)] == [0, 7, 512]


@dataclass(frozen=True)
class Skewed(Policy):
    """One head wants all tokens, the others a twentieth of them."""

    name: ClassVar[str] = "skewed"
    needs: ClassVar[ColumnSums] = ColumnSums()

    def score(self, view: LayerView) -> Tensor:
        rare = view.positions % 20 == 0
        rare[:, 0] = True
        return rare.float() - 0.5


def test_skewed_heads_take_no_room_for_each_other() -> None:
    """Allocated over live bytes is at most 1.15, at the peak and after decoding."""
    model, tokens = tiny_llama(num_attention_heads=8, num_key_value_heads=8), tiny_tokens(2, 1024)
    how: Any = {"interval": 512, "storage": "per_head"}
    with torch.no_grad(), attach(model, Skewed(budget="threshold"), **how) as memory:
        model(tokens)
        uses = [memory.usage(row) for row in (0, 1)]
        for _ in range(40):
            model(tokens[:, :1], past_key_values=memory.cache)
        uses += [memory.usage(row) for row in (0, 1)]
    sizes = [len(head) for head in memory.kept(0)]
    assert max(sizes) > 5 * sorted(sizes)[-2]
    for use in uses:
        assert use.live_final is not None
        assert use.live_peak is not None
        assert use.bytes_final / use.live_final <= 1.15
        assert use.bytes_peak / use.live_peak <= 1.15


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", ["h2o", "attention_max", "attention_ema", "namm"])
def test_statistics_are_held_once(name: str, storage: str) -> None:
    """Bytes of buffers are those of their numbers: no view of something larger, no copy."""
    model, tokens = tiny_llama(), tiny_tokens(1, 200)
    policy = create(name, budget="tokens:64")
    with torch.no_grad(), attach(model, policy, interval=64, storage=storage) as memory:
        for stop in (150, 192, 200):
            model(tokens[:, stop - 8 : stop], past_key_values=memory.cache)
            for layer in memory.cache.sequences.memories:
                (cohort,) = layer.cohorts
                held = list(vars(cohort.store)["_statistics"].values())
                size = sum(part.untyped_storage().nbytes() for part in held)
                assert size == cohort.store.statistics_nbytes


def test_sums_of_a_model_in_bfloat16_do_not_stall() -> None:
    """A sum of 300 grows by a 100th at each query: bfloat16 would add nothing."""
    model, tokens = tiny_llama().to(torch.bfloat16), tiny_tokens(1, 128)
    with torch.no_grad(), attach(model, H2O(budget="tokens:64"), interval=64) as memory:
        model(tokens)
        (cohort,) = memory.cache.sequences.memories[0].cohorts
        (sums,) = cohort.store.statistics().values()
    assert sums.dtype == torch.float32
    observation = ColumnSums()
    state = {observation.name: torch.full((1, 1, 3), 300.0)}
    for _ in range(100):
        state = dict(observation.fold(state, torch.full((1, 1, 16, 3), 0.01)))
    torch.testing.assert_close(observation.read(state), torch.full((1, 1, 3), 316.0))
