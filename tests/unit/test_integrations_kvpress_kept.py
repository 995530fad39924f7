"""Where kvpress has a method of ours, both keep the same tokens of a prompt.

kvpress scores each layer after the prompt, from the layer's inputs, keys and values; our memory
runs with ``prune_after_prefill``. The agreement is the part of kvpress's tokens that we keep too,
over all layers and heads; ``pytest -rP`` prints it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers import __version__ as transformers_version

from namm_mm.memory import attach
from namm_mm.policies import create
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = [
    pytest.mark.numeric,
    pytest.mark.skipif(
        tuple(map(int, transformers_version.split(".")[:2])) < (5, 17),
        reason=f"our memory needs transformers 5.17, here is {transformers_version}",
    ),
]

kvpress = pytest.importorskip(
    "kvpress", reason="kvpress is not installed: make test-kvpress makes an environment for it"
)
PROMPT, SIZE, LAYERS = 400, 100, 4
REQUEST = [5, 6, 7]
Kept = list[list[set[int]]]


@dataclass
class Layer:
    """What one attention layer was given in one call, and its cache afterwards."""

    module: Any
    hidden: Tensor
    rotary: tuple[Tensor, Tensor]
    keys: Tensor
    values: Tensor

    def scores(self, press: Any) -> Tensor:
        found: Tensor = press.score(
            self.module, self.hidden, self.keys, self.values, None, self.arguments
        )
        return found

    @property
    def arguments(self) -> dict[str, Any]:
        return {"position_embeddings": self.rotary}


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_llama(num_hidden_layers=LAYERS, max_position_embeddings=2048)


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return tiny_tokens(1, PROMPT, seed=3)


def layers_of(model: Any, ids: Tensor, cache: DynamicCache) -> list[Layer]:
    """Run `ids` after what `cache` holds; it grows."""
    found: list[Layer] = []
    handles = []
    for layer in model.model.layers:
        layer.self_attn.rotary_emb = model.model.rotary_emb

        def watch(module: Any, _args: Any, given: dict[str, Any]) -> None:
            empty = torch.empty(0)
            rotary = given["position_embeddings"]
            found.append(Layer(module, given["hidden_states"], rotary, empty, empty))

        handles.append(layer.self_attn.register_forward_pre_hook(watch, with_kwargs=True))
    with torch.no_grad():
        model(ids, past_key_values=cache)
    for handle in handles:
        handle.remove()
    for layer in model.model.layers:
        del layer.self_attn.rotary_emb
    held: Any = cache.layers
    for one, cached in zip(found, held, strict=True):
        one.keys, one.values = cached.keys, cached.values
    return found


@pytest.fixture(scope="module")
def layers(model: Any, ids: Tensor) -> list[Layer]:
    found = layers_of(model, ids, DynamicCache())
    for one in found:
        one.module.rotary_emb = model.model.rotary_emb
    return found


def ours(model: Any, ids: Tensor, policy: Any) -> Kept:
    storage = policy.storage or "shared"
    with (
        torch.no_grad(),
        attach(
            model, policy, interval=PROMPT, storage=storage, protocol="prune_after_prefill"
        ) as memory,
    ):
        model(ids)
    return [[set(head.tolist()) for head in memory.kept(layer)] for layer in range(LAYERS)]


def best(scores: Tensor, size: int = SIZE) -> list[set[int]]:
    return [set(head.topk(size).indices.tolist()) for head in scores[0]]


def unmasked(module: Any, heads: int, length: int) -> list[set[int]]:
    """What a press that only masks leaves."""
    left = [set(range(length)) for _ in range(heads)]
    _, head_indices, slots = module.masked_key_indices
    for head, slot in zip(head_indices.tolist(), slots.tolist(), strict=True):
        left[head].discard(slot)
    module.masked_key_indices = None
    return left


def agreement(theirs: Kept, found: Kept) -> float:
    pairs = [p for a, b in zip(theirs, found, strict=True) for p in zip(a, b, strict=True)]
    return sum(len(a & b) for a, b in pairs) / sum(len(a) for a, _ in pairs)


def told(name: str, theirs: Kept, found: Kept) -> float:
    part = agreement(theirs, found)
    sys.stdout.write(f"{name}: {part:.4f} of kvpress's tokens\n")
    return part


RATIO = 1 - SIZE / PROMPT
SCORERS: dict[str, tuple[dict[str, Any], Any]] = {
    "snapkv": ({"recents": 16}, lambda: kvpress.SnapKVPress(window_size=16)),
    "tova": ({}, kvpress.TOVAPress),
    "expected_attention": ({}, lambda: kvpress.ExpectedAttentionPress(epsilon=0.02)),
    "keydiff": ({}, kvpress.KeyDiffPress),
    "lagkv": ({"lag": 64}, lambda: kvpress.LagKVPress(lag_size=64)),
    "l2_all": ({}, kvpress.KnormPress),
    "criticalkv": (
        {"over": {"name": "snapkv", "recents": 16}},
        lambda: kvpress.CriticalKVPress(kvpress.SnapKVPress(window_size=16)),
    ),
}


@pytest.mark.parametrize("name", SCORERS)
def test_the_same_tokens_stay(name: str, model: Any, ids: Tensor, layers: list[Layer]) -> None:
    options, make = SCORERS[name]
    press = make()
    press.compression_ratio = RATIO
    theirs = [best(layer.scores(press)) for layer in layers]
    found = ours(model, ids, create(name, budget=f"tokens:{SIZE}", **options))
    assert told(name, theirs, found) >= 0.99  # the newest always stays here, and ties


def test_heads_share_a_layer_s_budget_alike(model: Any, ids: Tensor, layers: list[Layer]) -> None:
    press = kvpress.AdaKVPress(kvpress.SnapKVPress(window_size=16))
    press.compression_ratio = RATIO
    theirs = []
    for one in layers:
        press.compress(one.module, one.hidden, one.keys, one.values, None, one.arguments)
        theirs.append(unmasked(one.module, 2, PROMPT))
    below = {"name": "snapkv", "recents": 16}
    found = ours(model, ids, create("adakv", over=below, budget=f"tokens:{SIZE}"))
    assert told("adakv", theirs, found) >= 0.99


def test_a_pyramid_gives_each_layer_as_many_tokens(
    model: Any, ids: Tensor, layers: list[Layer]
) -> None:
    press = kvpress.PyramidKVPress(window_size=4, beta=20)
    press.compression_ratio = RATIO
    sizes = [press.get_layer_budget(one.module, PROMPT) for one in layers]
    theirs = [best(one.scores(press), size) for one, size in zip(layers, sizes, strict=True)]
    below = {"name": "snapkv", "recents": 4}
    found = ours(model, ids, create("pyramid", over=below, budget=f"tokens:{SIZE}"))
    assert [len(layer[0]) for layer in found] == pytest.approx(sizes, abs=1)
    assert told("pyramid", theirs, found) >= 0.98


def test_a_repetition_shows_the_same_tokens(model: Any, ids: Tensor) -> None:
    from namm_mm.memory.repetition import repetition_scores

    press = kvpress.KVzipPress(compression_ratio=RATIO, layerwise=True)
    cache = DynamicCache()
    layers_of(model, ids, cache)
    repeated = torch.cat([torch.tensor([REQUEST]), ids], dim=1)
    press.context_length = press.end_idx = PROMPT
    press.score_val = torch.zeros(LAYERS, 1, 2, PROMPT)
    for one in layers_of(model, repeated, cache):
        press.score_kvzip(one.module, one.hidden, one.keys, one.values, None, one.arguments)
    press.compress_post(model)
    theirs = [unmasked(layer.self_attn, 2, PROMPT) for layer in model.model.layers]
    scores = repetition_scores(model, ids[0].tolist(), REQUEST)
    policy = create("kvzip", budget=f"tokens:{SIZE}").for_repetition(scores)
    assert told("kvzip", theirs, ours(model, ids, policy)) >= 0.99
