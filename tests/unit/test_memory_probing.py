"""A probe measures each head as the model's own attention weights say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from namm_mm.cli import main
from namm_mm.errors import UnsupportedError
from namm_mm.memory import attach, probing
from namm_mm.policies import budgets, create
from namm_mm.policies.base import Policy
from namm_mm.policies.probed import Probed
from namm_mm.testing.tiny import tiny_gpt2, tiny_llama, tiny_mistral, tiny_tokens

pytestmark = pytest.mark.numeric

TOKENS, BETWEEN = 12, 5


def small(**changes: Any) -> Policy:
    options = {"tokens": TOKENS, "between": BETWEEN, "rows": 3, "budget": "fraction:0.5"}
    return create("probed", over="recency", **{**options, **changes})


def measured(model: Any) -> Tensor:
    with attach(model, small(), interval=16) as memory:
        policy = memory.policy
    assert isinstance(policy, Probed)
    assert policy.need is not None
    return torch.tensor(policy.need.needs)


def dense(model: Any) -> Tensor:
    """(layer, kv_head): the need, from the attention weights of the whole sequences."""
    probe = small().probe
    assert probe is not None
    ids = probing._random_tokens(model.config, probe, probing._special(model.config))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(input_ids=ids, output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    heads = model.config.to_dict().get("num_key_value_heads") or model.config.num_attention_heads
    said = torch.arange(ids.shape[1] - TOKENS, ids.shape[1] - 1)
    before = said - TOKENS - BETWEEN
    assert bool((ids[:, said] == ids[:, before]).all())
    found = [
        (layer[:, :, said, before] + layer[:, :, said, before + 1]).mean((0, 2))
        for layer in weights
    ]
    return torch.stack([layer.view(heads, -1).amax(-1) for layer in found])


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2, tiny_mistral])
def test_needs_are_those_of_the_attention_weights(make: Any) -> None:
    model = make()
    found = measured(model)
    torch.testing.assert_close(found, dense(model), atol=1e-5, rtol=1e-4)
    assert bool((found > 0).all())
    assert bool((found < 1).all())


def test_a_window_that_hides_the_first_time_leaves_no_need() -> None:
    model = tiny_mistral(sliding_window=TOKENS + BETWEEN - 1)
    assert measured(model).abs().max() < 1e-6


def test_a_model_is_probed_once_and_again_when_its_weights_change() -> None:
    model = tiny_llama()
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    hook = model.register_forward_hook(count)
    first = measured(model)
    again = measured(model)
    assert calls == 1
    assert torch.allclose(first, again)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.mul_(3.0)
    assert not torch.allclose(measured(model), first)
    assert calls == 2
    hook.remove()


def test_heads_keep_what_their_need_says_and_the_budget_is_held() -> None:
    model = tiny_llama()
    with torch.no_grad(), attach(model, small(budget="fraction:0.25"), interval=32) as memory:
        model(tiny_tokens(2, 160))
        policy, sizes = memory.policy, memory.trace().sizes[-1]
    assert isinstance(policy, Probed)
    assert policy.need is not None
    flat = [size for layer in sizes for size in layer]
    assert sum(flat) / len(flat) == pytest.approx(40, abs=1)
    assert sizes[0] == policy.need.sizes(0, 40, 160)
    assert len(set(flat)) > 1


def test_the_random_tokens_are_none_with_a_meaning_of_their_own() -> None:
    model = tiny_llama()
    model.config.eos_token_id = [3, 4]
    model.config.image_token_id = 7
    probe = small(rows=40).probe
    assert probe is not None
    ids = probing._random_tokens(model.config, probe, probing._special(model.config))
    assert not {3, 4, 7} & set(ids[:, 1:].flatten().tolist())
    state = torch.random.get_rng_state()
    measured(model)
    assert bool((torch.random.get_rng_state() == state).all())


def test_a_small_vocabulary_is_told_half_of_it_twice_and_one_that_is_too_small_is_refused() -> None:
    model = tiny_llama(vocab_size=27)
    probe = create("probed", over="recency").probe
    assert probe is not None
    special = probing._special(model.config)
    ids = probing._random_tokens(model.config, probe, special)
    twice = (27 - len(special)) // 2
    assert ids.shape[1] == 2 * twice + probe.between
    first, second = ids[0, :twice], ids[0, -twice:]
    assert first.tolist() == second.tolist()
    assert len(set(first.tolist())) == twice
    assert not set(first.tolist()) & set(ids[0, twice:-twice].tolist())
    assert bool((measured(model) > 0).all())
    with pytest.raises(UnsupportedError, match="too few tokens"):
        attach(tiny_llama(vocab_size=16), create("probed", over="recency"))


def test_control_is_refused_before_a_model_loads(capsys: pytest.CaptureFixture[str]) -> None:
    words = "evaluate adapter=decision_transformer task=offline_rl policy=probed"
    assert main([*words.split(), "storage=per_head"]) == 2
    assert "probed(namm) needs a model that reads token ids" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["match", "match_heads", "match_total"])
def test_a_probed_policy_holds_as_many_tokens_as_the_run_that_it_matches(kind: str) -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 90)
    followed = create("namm", budget="pool:0.4")
    with torch.no_grad(), attach(model, followed, interval=32, storage="per_head") as memory:
        model(input_ids=tokens)
        trace = memory.trace()
    budget = budgets.parse(f"{kind}:namm", {"namm": (trace,)})
    with torch.no_grad(), attach(model, small(budget=budget), interval=32) as memory:
        model(input_ids=tokens)
        mine = memory.trace()
    heads = [sum(map(len, update)) for update in trace.sizes]
    theirs = [sum(map(sum, update)) for update in trace.sizes]
    held = [sum(map(sum, update)) for update in mine.sizes]
    assert len(held) == len(theirs) > 1
    assert all(
        abs(one - other) <= count for one, other, count in zip(held, theirs, heads, strict=True)
    )
    assert any(len(set(layer)) > 1 for update in mine.sizes for layer in update)
