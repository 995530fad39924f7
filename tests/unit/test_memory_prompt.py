"""`prune_after_prefill` prunes once, at the end of the prompt, however the prompt was fed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from namm_mm.errors import UsageError
from namm_mm.memory import Memory, attach
from namm_mm.memory.watch import Update
from namm_mm.policies import create
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric

PROMPT = 64
BUDGET = "fraction:0.3"  # 19 of 64, 15 of 49
Feed = Callable[[Any, Memory, Tensor], None]


def in_one_call(model: Any, memory: Memory, tokens: Tensor) -> None:
    model(tokens)


def in_two_calls(model: Any, memory: Memory, tokens: Tensor) -> None:
    model(tokens[:, :22])
    model(tokens[:, 22:], past_key_values=memory.cache)


def on_an_own_cache(model: Any, memory: Memory, tokens: Tensor) -> None:
    own = DynamicCache()
    for part in (tokens[:, :30], tokens[:, 30:60], tokens[:, 60:]):
        model(part, past_key_values=own)


def while_it_is_read(model: Any, memory: Memory, tokens: Tensor) -> None:
    model(tokens[:, :40])
    assert memory.usage().tokens_final == 12
    model(tokens[:, 40:], past_key_values=memory.cache)


def after_it_was_told(model: Any, memory: Memory, tokens: Tensor) -> None:
    memory.expect_prompt(PROMPT)
    model(tokens[:, :-1])
    model(tokens[:, -1:], past_key_values=memory.cache)


def then(memory: Memory, model: Any) -> Tensor:
    """Decode two tokens."""
    step = torch.tensor([[5]])
    parts = [model(step, past_key_values=memory.cache).logits for _ in range(2)]
    return torch.cat(parts, dim=1)


FEEDS = [in_one_call, in_two_calls, on_an_own_cache, while_it_is_read, after_it_was_told]


@pytest.mark.parametrize("storage", ["shared", "per_head"])
@pytest.mark.parametrize("name", ["h2o", "l2_all", "snapkv"])
def test_however_it_is_fed_the_prompt_is_pruned_once(name: str, storage: str) -> None:
    model, tokens, found = tiny_llama(), tiny_tokens(1, PROMPT), []
    options: Any = {"storage": storage, "protocol": "prune_after_prefill"}
    policy = create(name, budget=BUDGET)
    for feed in FEEDS:
        updates: list[Update] = []
        with (
            torch.no_grad(),
            attach(model, policy, watcher=updates.append, **options) as memory,
        ):
            feed(model, memory, tokens)
            assert memory.usage().tokens_final == 19, feed.__name__
            kept = [head.tolist() for layer in range(2) for head in memory.kept(layer)]
            logits = then(memory, model)
            assert memory.usage().tokens_final == 21
            assert memory.usage().updates == 1 == len(memory.trace().sizes)
        assert [update.seen for update in updates] == [PROMPT] * 2
        found.append((kept, logits))
    for kept, logits in found[1:]:
        assert kept == found[0][0]
        torch.testing.assert_close(logits, found[0][1], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 7, 21, 63, 64, 100])
def test_the_pieces_of_generate_are_one_prompt(size: int) -> None:
    """With 7, 21 and 63 the last piece is one token, as a decoded one is."""
    model, tokens = tiny_llama(), tiny_tokens(1, PROMPT)
    outputs = []
    for pieces in (None, size):
        policy = create("h2o", budget=BUDGET)
        with attach(model, policy, protocol="prune_after_prefill") as memory:
            out = model.generate(
                tokens, attention_mask=torch.ones_like(tokens), do_sample=False,
                max_new_tokens=6, prefill_chunk_size=pieces,
            )  # fmt: skip
            assert memory.usage().tokens_final == 19 + 5
            assert memory.usage().updates == 1
            outputs.append((out.tolist(), memory.kept(0)[0].tolist(), memory.kept(1)[1].tolist()))
    assert outputs[0] == outputs[1]


def test_a_generation_of_one_token_leaves_the_pruned_prompt() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, PROMPT)
    with attach(model, create("h2o", budget=BUDGET), protocol="prune_after_prefill") as memory:
        model.generate(tokens, do_sample=False, max_new_tokens=1, prefill_chunk_size=7)
    assert memory.usage().tokens_final == 19
    assert memory.cache.sequences.memories[0].cohorts[0].store.width == 19, "nothing was freed"


@pytest.mark.parametrize("size", [None, 7])
def test_rows_of_a_batch_end_their_prompts_together(size: int | None) -> None:
    model, tokens = tiny_llama(), tiny_tokens(2, PROMPT)
    mask = torch.ones_like(tokens)
    mask[1, :15] = 0
    options: Any = {"do_sample": False, "max_new_tokens": 5, "prefill_chunk_size": size}
    policy = create("h2o", budget=BUDGET)
    with attach(model, policy, protocol="prune_after_prefill") as memory:
        both = model.generate(tokens, attention_mask=mask, **options)
        assert [memory.usage(row).tokens_final for row in (0, 1)] == [19 + 4, 15 + 4]
        alone = model.generate(tokens[1:, 15:], **options)
        assert memory.usage().tokens_final == 15 + 4
    assert both[1, PROMPT:].tolist() == alone[0, 49:].tolist()


def test_a_second_turn_is_kept_until_it_is_pruned_too() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, PROMPT)
    own = DynamicCache()
    options: Any = {"do_sample": False, "max_new_tokens": 6, "past_key_values": own}
    policy = create("h2o", budget=BUDGET)
    with attach(model, policy, protocol="prune_after_prefill") as memory:
        first = model.generate(tokens, **options)
        turn = torch.cat([first, tiny_tokens(1, 30, seed=3)], dim=1)
        model.generate(turn, **options)
        assert memory.usage().updates == 1
        assert memory.usage().tokens_final == 19 + 105 - PROMPT
        memory.prune()
        assert memory.usage().updates == 2
        assert memory.usage().tokens_final == 32


def test_copies_of_an_unpruned_prompt_are_pruned_each_alone() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, PROMPT)
    step, policy = torch.tensor([[5]]), create("h2o", budget=BUDGET)
    with torch.no_grad(), attach(model, policy, protocol="prune_after_prefill") as memory:
        model(tokens[:, :40])
        prefix = memory.cache
        for length in (1, 24):
            model(tokens[:, 40 : 40 + length], past_key_values=copy.deepcopy(prefix))
            expected = 13 if length == 1 else 19  # one token decodes: 12 of 40, and itself
            assert memory.usage().tokens_final == expected
        memory.cache = prefix
        assert memory.usage().tokens_final == 12
        assert prefix.sequences.memories[0].cohorts[0].store.width == 40, "reading pruned it"
        model(step, past_key_values=prefix)
        assert memory.usage().tokens_final == 13


def test_beams_go_on_from_the_pruned_prompt() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, PROMPT)
    policy = create("h2o", budget=BUDGET)
    with attach(model, policy, protocol="prune_after_prefill") as memory:
        model.generate(tokens, do_sample=False, num_beams=3, max_new_tokens=5)
        assert {memory.usage(row).updates for row in range(3)} == {1}
        assert {memory.usage(row).tokens_final for row in range(3)} == {19 + 4}


def test_a_prompt_of_no_columns_is_refused() -> None:
    with (
        attach(tiny_llama(), "h2o", protocol="prune_after_prefill") as memory,
        pytest.raises(UsageError, match="length of a prompt"),
    ):
        memory.expect_prompt(0)


def test_rows_that_were_taken_before_the_prompt_ended_are_those_that_are_reported() -> None:
    model, tokens = tiny_llama(), tiny_tokens(2, PROMPT)
    policy = create("h2o", budget=BUDGET)
    with torch.no_grad(), attach(model, policy, protocol="prune_after_prefill") as memory:
        model(tokens)
        first, second = ([head.tolist() for head in memory.kept(1, row)] for row in (0, 1))
        assert first != second
        memory.cache.batch_select_indices(torch.tensor([1, 0]))
        assert [head.tolist() for head in memory.kept(1, 0)] == second
        assert [head.tolist() for head in memory.kept(1, 1)] == first


def test_a_cache_that_was_reset_forgets_how_long_its_prompt_was_to_be() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, PROMPT)
    policy = create("h2o", budget=BUDGET)
    with torch.no_grad(), attach(model, policy, protocol="prune_after_prefill") as memory:
        memory.expect_prompt(20)
        model(tokens[:, :20])
        cache = memory.cache
        cache.reset()
        for part in (tokens[:, :30], tokens[:, 30:]):
            model(part, past_key_values=cache)
        assert memory.usage().tokens_final == 19
        then(memory, model)
        assert memory.usage().tokens_final == 21


def test_a_row_of_padding_alone_is_pruned_with_the_others() -> None:
    model, mask = tiny_llama(), torch.ones(2, PROMPT, dtype=torch.long)
    mask[1] = 0
    policy = create("h2o", budget=BUDGET)
    with torch.no_grad(), attach(model, policy, protocol="prune_after_prefill") as memory:
        model(tiny_tokens(2, PROMPT), attention_mask=mask)
        memory.prune()
        assert [memory.usage(row).tokens_final for row in (0, 1)] == [19, 0]
