"""A cache costs what it holds: room does not grow with the interval, and old caches are freed."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch

from namm_mm.memory import attach
from namm_mm.memory.cache import EvictingCache
from namm_mm.memory.store import LEAST_ROOM, room_behind
from namm_mm.policies import H2O, Full, Recency
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
