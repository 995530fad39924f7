"""Eviction is checked against an oracle without its code, and the oracle against mutants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from replay import replay, visible_after
from stft import frames_reference

from namm_mm.memory import attach
from namm_mm.memory import cache as cache_module
from namm_mm.memory import visibility as visibility_module
from namm_mm.memory.store import SharedStore
from namm_mm.observations import Cached
from namm_mm.policies import Budget, Policy, Threshold, create
from namm_mm.testing.tiny import TINY, tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric

INTERVAL = 32
LENGTH = 217  # six updates and a rest


def ragged(seed: int = 3) -> Policy:
    """Random scores around zero under the threshold rule: heads keep different numbers."""
    return create("random", budget=Threshold(), seed=seed, sinks=0)


class _Centred(Policy):
    """Random, shifted so that about half of all scores are below zero."""

    name = "coin"

    def __init__(self) -> None:
        super().__init__(budget=Threshold())

    def score(self, view: Any) -> torch.Tensor:
        return ragged().score(view) - 0.4


def difference(model: Any, policy: Any, storage: str, length: int = LENGTH) -> float:
    """Largest difference between the memory's logits and the replay's."""
    tokens = tiny_tokens(1, length)
    visible = visible_after(model, tokens, policy, interval=INTERVAL, storage=storage)
    with torch.no_grad():
        with replay(model, visible):
            expected = model(tokens, use_cache=False).logits
        with attach(model, policy, interval=INTERVAL, storage=storage):
            got = model(tokens).logits
    return float((got - expected).abs().max())


@pytest.mark.parametrize("storage", ["shared", "per_head"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_ragged_eviction_equals_the_dense_replay(name: str, storage: str) -> None:
    model = TINY[name]()
    tokens = tiny_tokens(1, LENGTH)
    assert difference(model, _Centred(), storage) < 2e-4
    with torch.no_grad(), attach(model, _Centred(), interval=INTERVAL, storage=storage) as memory:
        evicted = model(tokens).logits
    with torch.no_grad():
        assert float((evicted - model(tokens).logits).abs().max()) > 0.5, "eviction left no mark"
    if storage == "per_head":
        assert len({len(head) for layer in range(2) for head in memory.kept(layer)}) > 1


@pytest.mark.parametrize(
    "policy", ["h2o", "l2_all", "recency", "attention_max", "attention_ema", "namm"]
)
@pytest.mark.parametrize("storage", ["shared", "per_head"])
def test_every_policy_equals_its_replay(policy: str, storage: str) -> None:
    built = create(policy) if policy == "namm" else create(policy, budget=Budget(tokens=40))
    assert difference(tiny_llama(), built, storage) < 2e-4


@pytest.mark.parametrize("storage", ["shared", "per_head"])
@pytest.mark.parametrize("policy", ["h2o", "attention_max", "attention_ema", "namm"])
def test_statistics_survive_evictions(policy: str, storage: str) -> None:
    """Statistics of kept tokens equal those of the replayed attention matrix."""
    exact = {"state": "float32"} if policy == "namm" else {}
    built: Any = create(policy, budget=Budget(tokens=40), **exact)
    model, tokens = tiny_llama(), tiny_tokens(1, 6 * INTERVAL + 16)
    visible = visible_after(model, tokens, built, interval=INTERVAL, storage=storage)
    with torch.no_grad():
        with replay(model, visible) as weights:
            model(tokens, use_cache=False)
        with attach(model, built, interval=INTERVAL, storage=storage) as memory:
            model(tokens)
    for layer in range(2):
        (state,) = memory.cache.sequences.memories[layer].cohorts
        cached = Cached(state.store.padded()[0], state.store.positions(), len(tokens[0]), 1.0)
        held = state.observer.statistics(state.store, cached)
        for head, kept in enumerate(memory.kept(layer)):
            columns = weights[layer][0, head][:, kept]
            if policy == "h2o":
                expected, got = columns.sum(0), held["column_sums"][0, head, : len(kept)]
            elif policy == "attention_max":
                expected, got = columns.amax(0), held["column_maxima"][0, head, : len(kept)]
            elif policy == "attention_ema":
                left = built.decay ** torch.arange(len(columns) - 1, -1, -1)
                expected, got = left @ columns, held["decayed_sums"][0, head, : len(kept)]
            else:
                signal = torch.nn.functional.pad(columns.T, (16, 0))
                frames = frames_reference(built.spectrogram, signal)
                expected = torch.zeros_like(frames[:, 0])
                for frame in frames.unbind(1):
                    decay = built.spectrogram.decay
                    expected = decay * expected + (1 - decay) * frame
                got = held["spectrogram"][0, head, : len(kept)]
            torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def _physical_length(self: Any) -> int:
    cohorts = self.memory.cohorts
    return cohorts[0].store.width if cohorts else 0


def _sees_one_ahead(part: range, count: int, store: Any) -> torch.Tensor:
    lengths: torch.Tensor = store.lengths
    seen = lengths[..., None] - count + 2 + torch.arange(part.start, part.stop)
    return torch.arange(store.width) < seen[..., None]


def _drops_one_more(self: Any, index: torch.Tensor, *more: Any) -> None:
    index = index.clone()
    index[0, 0, 3] = index[0, 0, 4]  # one head holds one token twice, and another not at all
    _KEEP(self, index, *more)


def _mixes_heads(self: Any, *given: Any) -> None:
    _KEEP(self, *given)
    self._keys = self._keys.flip(1)


_KEEP = SharedStore.keep
MUTANTS = {
    "the cache reports its physical length": (
        cache_module.EvictingLayer,
        "get_seq_length",
        _physical_length,
    ),
    "a query sees the token after it": (visibility_module, "visibility", _sees_one_ahead),
    "one head loses one token more": (SharedStore, "keep", _drops_one_more),
    "keys of two heads are exchanged": (SharedStore, "keep", _mixes_heads),
}


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_the_oracle_catches_mutants(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison that passes above fails when the memory is broken on purpose."""
    model, policy = tiny_llama(), create("h2o", budget=Budget(tokens=40))
    tokens = tiny_tokens(1, LENGTH)
    visible = visible_after(model, tokens, policy, interval=INTERVAL, storage="shared")
    with torch.no_grad(), replay(model, visible):
        expected = model(tokens, use_cache=False).logits
    target, name, broken = MUTANTS[mutant]
    monkeypatch.setattr(target, name, broken)
    with torch.no_grad(), attach(model, policy, interval=INTERVAL) as memory:
        # in two calls, so that positions are asked for after an eviction
        first = model(tokens[:, :150]).logits
        rest = model(
            tokens[:, 150:],
            past_key_values=memory.cache,
            attention_mask=None,
        ).logits
    assert float((torch.cat([first, rest], 1) - expected).abs().max()) > 0.05
