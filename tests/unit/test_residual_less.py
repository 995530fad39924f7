"""A residual with exact features is full attention; one without features changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from less_kernels import random_kernels
from torch import Tensor

from namm_mm.errors import UsageError
from namm_mm.experiment.reading import from_mapping
from namm_mm.memory import attach, attention
from namm_mm.memory.layer import LayerMemory
from namm_mm.memory.store import SharedStore
from namm_mm.observations.formula import Formula
from namm_mm.policies import Less, create
from namm_mm.residuals import FeatureMaps
from namm_mm.residuals.less import PARTS, LessKernels, load_kernels
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric


class Exact(FeatureMaps):
    """One feature for each token: ``phi_j(q) = exp(q . k_j s)`` and ``psi(k_j)`` one-hot."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.keys: dict[int, Tensor] = {}  # (row, kv_head, token, dim)

    @property
    def features(self) -> int:
        return self.tokens

    @property
    def layers(self) -> int:
        return 2

    def of_queries(self, layer: int, queries: Tensor) -> Tensor:
        keys = self.keys[layer]
        grouped = queries.view(*keys.shape[:2], -1, *queries.shape[2:])
        products = grouped @ keys[:, :, None].transpose(-1, -2)
        products = products * queries.shape[-1] ** -0.5
        return torch.nn.functional.pad(products.exp(), (0, self.tokens - keys.shape[2])).flatten(
            1, 2
        )

    def of_keys(self, layer: int, keys: Tensor, positions: Tensor) -> Tensor:
        one_hot: Tensor = torch.nn.functional.one_hot(positions.clamp_min(0), self.tokens)
        return one_hot.float()


class Nothing(Exact):
    """No trace: every feature of a key is 0."""

    def of_keys(self, layer: int, keys: Tensor, positions: Tensor) -> Tensor:
        return super().of_keys(layer, keys, positions) * 0.0


@pytest.fixture
def keys_of_all_tokens(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exact], None]:
    """Let exact features know every key that goes through the memory."""

    def watch(maps: Exact) -> None:
        attending = LayerMemory.attend

        def attend(
            self: LayerMemory, memory: Any, segment: Any, queries: Tensor, keys: Tensor, *rest: Any
        ) -> Tensor:
            held = maps.keys.get(self.layer)
            fresh = held is None or segment.seen == 0
            maps.keys[self.layer] = keys if fresh else torch.cat([held, keys], 2)  # type: ignore[list-item]
            return attending(self, memory, segment, queries, keys, *rest)

        monkeypatch.setattr(LayerMemory, "attend", attend)

    return watch


CASES = [
    (over, storage, protocol, rows)
    for over in ("h2o", "recency", "keydiff", "snapkv")
    for storage, protocol in (("shared", "streaming"), ("per_head", "streaming"))
    for rows in (1, 2)
] + [("h2o", "shared", "prune_after_prefill", 1), ("l2_all", "per_head", "prune_after_prefill", 2)]


@pytest.mark.parametrize(("over", "storage", "protocol", "rows"), CASES)
def test_exact_features_give_full_attention(
    over: str,
    storage: str,
    protocol: str,
    rows: int,
    keys_of_all_tokens: Callable[[Exact], None],
) -> None:
    """In several calls and while decoding: logits are those of the plain model."""
    model, tokens = tiny_llama(), tiny_tokens(rows, 120)
    maps = Exact(128)
    budget = "pool:0.2" if storage == "per_head" else "tokens:12"
    policy = create("less", over={"name": over, "budget": budget}, kernels=maps)
    with torch.no_grad():
        plain = model(tokens).logits
    keys_of_all_tokens(maps)
    with (
        torch.no_grad(),
        attach(model, policy, interval=16, storage=storage, protocol=protocol) as memory,
    ):
        found = [model(tokens[:, :70]).logits]
        for start, stop in ((70, 97), *((i, i + 1) for i in range(97, 120))):
            found.append(model(tokens[:, start:stop], past_key_values=memory.cache).logits)
    assert memory.usage().updates > 0
    assert memory.usage().tokens_final < 80
    torch.testing.assert_close(torch.cat(found, 1), plain, rtol=1e-4, atol=1e-4)


def test_without_features_nothing_changes() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 120)
    outputs = []
    for policy in (
        create("h2o", budget="tokens:12"),
        create("less", over={"name": "h2o", "budget": "tokens:12"}, kernels=Nothing(128)),
    ):
        if isinstance(policy, Less):
            maps = policy.maps
            assert isinstance(maps, Exact)
            maps.keys = {layer: torch.zeros(1, 2, 1, head_dim()) for layer in (0, 1)}
        with torch.no_grad(), attach(model, policy, interval=16) as memory:
            first = model(tokens[:, :100]).logits
            outputs.append(
                torch.cat([first, model(tokens[:, 100:], past_key_values=memory.cache).logits], 1)
            )
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


def head_dim() -> int:
    config = tiny_llama().config
    return int(config.hidden_size // config.num_attention_heads)


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("even", [True, False])
def test_fused_attention_gives_the_normaliser_of_the_formula(
    count: int, even: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fused attention of CPUs, and the products that are computed one by one."""
    torch.manual_seed(0)
    store = SharedStore(torch.empty(2, 2, 0, 8), torch.empty(2, 2, 0, 8))
    store.append(torch.randn(2, 2, 20, 8), torch.randn(2, 2, 20, 8), 0)
    if not even:
        lengths = torch.tensor([[9, 12], [12, 5]])
        index = torch.arange(12).expand(2, 2, 12).contiguous()
        store.keep(index, lengths)
    store.append(torch.randn(2, 2, count, 8), torch.randn(2, 2, count, 8), 20)
    queries, formula = torch.randn(2, 6, count, 8), Formula(8**-0.5)
    fused = attention.attend_with_normaliser(queries, store, formula)
    monkeypatch.setattr(attention, "_fused_with_normaliser", lambda *_: None)
    for one, other in zip(
        fused, attention.attend_with_normaliser(queries, store, formula), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_state_takes_the_same_bytes_however_much_was_evicted() -> None:
    model = tiny_llama()
    maps = random_kernels(dim=head_dim())
    held = []
    for name in ("h2o", "less"):
        options: dict[str, Any] = {"over": "h2o", "kernels": maps} if name == "less" else {}
        policy = create(name, budget="tokens:12", **options)
        sizes = []
        for length in (64, 160):
            with torch.no_grad(), attach(model, policy, interval=32) as memory:
                model(tiny_tokens(1, length))
            sizes.append(memory.usage().bytes_final)
        held.append(sizes)
    state = 2 * 2 * 4 * (head_dim() + 1) * 4  # layers, kv heads, features, values and weight
    assert [b - a for a, b in zip(*held, strict=True)] == [state, state]


def test_equal_bytes_count_the_state() -> None:
    """A head with a state of its own gets as many tokens fewer."""
    model, live = tiny_llama(), []
    token, state = 2 * 8 * 4 + 4, 4 * (head_dim() + 1) * 4
    for name in ("keydiff", "less"):
        less = {"over": "keydiff", "kernels": random_kernels(dim=head_dim())}
        options: dict[str, Any] = less if name == "less" else {}
        with (
            torch.no_grad(),
            attach(model, create(name, budget="bytes:0.4", **options), interval=32) as memory,
        ):
            model(tiny_tokens(1, 160))
        live.append(memory.usage().live_final or 0)
        assert memory.usage().tokens_final == (64 if name == "keydiff" else 64 - -(-state // token))
    assert 0 <= live[0] - live[1] < 2 * 2 * token


def test_rows_of_a_batch_with_padding_give_what_they_give_alone() -> None:
    model, maps = tiny_llama(), random_kernels(dim=head_dim())
    policy = create("less", over="h2o", budget="tokens:12", kernels=maps)
    tokens = tiny_tokens(2, 90)
    mask = torch.ones_like(tokens)
    mask[0, :37] = 0
    places = (mask.cumsum(1) - 1).clamp_min(0)  # features depend on the rotation of a key
    with torch.no_grad(), attach(model, policy, interval=16):
        both = model(tokens, attention_mask=mask, position_ids=places).logits
        alone = model(tokens[:1, 37:]).logits
    torch.testing.assert_close(both[:1, 37:], alone, rtol=1e-4, atol=1e-4)


def test_beams_take_their_state_along() -> None:
    model, maps = tiny_llama(), random_kernels(dim=head_dim())
    policy = create("less", over="h2o", budget="tokens:12", kernels=maps)
    ids = tiny_tokens(1, 60)
    with torch.no_grad(), attach(model, policy, interval=16) as memory:
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=3, max_new_tokens=20,
            min_new_tokens=20, do_sample=False,
        )  # fmt: skip
    assert out.shape == (1, 80)
    assert memory.usage().updates >= 4


def test_kernels_are_written_in_half_precision_and_read_back(tmp_path: Path) -> None:
    made = random_kernels(card={"policy": "h2o", "model": "tiny"})
    read = load_kernels(made.save(tmp_path / "less.safetensors"))
    assert read.card == {"policy": "h2o", "model": "tiny"}
    assert read.shape == (4, 2, 16)
    for before, after in zip(made.parts, read.parts, strict=True):
        assert all(bool((before[name] == after[name]).all()) for name in PARTS)


def test_kernels_of_another_policy_are_refused_unless_told_otherwise() -> None:
    made = random_kernels(card={"policy": "h2o"})
    with pytest.raises(UsageError, match=r"got 'recency', expected h2o.*anyway=true"):
        create("less", over="recency", kernels=made)
    assert create("less", over="recency", kernels=made, anyway=True).name == "less(recency)"


def test_kernels_of_another_model_are_refused_before_it_runs() -> None:
    policy = create("less", over="h2o", kernels=random_kernels(dim=2 * head_dim()))
    with pytest.raises(UsageError, match="do not fit the model"), attach(tiny_llama(), policy):
        pass


def test_kernels_of_another_head_size_are_refused_before_a_model_loads(tmp_path: Path) -> None:
    """Even those that are to be used anyway."""
    file = random_kernels(1, 1, 8, {"model": "tiny"}, layers=3).save(tmp_path / "less.safetensors")
    less = {"name": "less", "over": "h2o", "kernels": str(file), "anyway": True}
    adapter = {"name": "decision_transformer", "model": "pocket_rl_hopper"}
    cell = {"adapter": adapter, "task": {"name": "offline_rl"}, "interval": 48, "policies": [less]}
    with pytest.raises(UsageError, match=r"do not fit the model: got .*\(1, 1, 64\)"):
        from_mapping({"name": "x", "budgets": [0.5], "cells": {"control": cell}})


def test_files_that_are_no_kernels_name_what_was_expected(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="a1, a2, b1"):
        load_kernels(broken)
    with pytest.raises(UsageError, match="namm-mm build less"):
        load_kernels(tmp_path / "absent")


def test_kernels_lie_on_the_device_of_the_model_before_its_first_token() -> None:
    policy = create("less", over="h2o", kernels=random_kernels()).for_model(tiny_llama().to("meta"))
    maps = policy.residual
    assert isinstance(maps, LessKernels)
    assert {part.device.type for parts in maps.parts for part in parts.values()} == {"meta"}
