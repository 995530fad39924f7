"""Rows of a batch, turns of a conversation and beams: each gives what it would give alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from namm_mm.memory import Memory, attach
from namm_mm.policies import Budget, create
from namm_mm.testing.tiny import TINY, tiny_llama, tiny_mistral, tiny_tokens

pytestmark = pytest.mark.numeric

INTERVAL = 32
LENGTHS = (150, 113, 101)
STORAGES = ("shared", "per_head")


def policy(name: str = "h2o") -> Any:
    if name == "full":
        return create(name)
    # The compact state of a NAMM is rounded after every call, however many tokens it brings.
    options: dict[str, dict[str, Any]] = {"random": {"seed": 1}, "namm": {"state": "float32"}}
    return create(name, budget=Budget(tokens=40), **options.get(name, {}))


def padded(lengths: tuple[int, ...] = LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded rows of different lengths, and their mask."""
    tokens = tiny_tokens(len(lengths), max(lengths))
    mask = torch.ones_like(tokens)
    for row, length in enumerate(lengths):
        mask[row, : max(lengths) - length] = 0
    return tokens * mask, mask


def greedy(model: Any, tokens: torch.Tensor, **options: Any) -> torch.Tensor:
    out: torch.Tensor = model.generate(tokens, do_sample=False, **options)
    return out[:, tokens.shape[1] :]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", ["h2o", "random", "namm"])
def test_a_padded_row_gives_what_it_gives_alone(name: str, storage: str) -> None:
    """Answers, kept positions, sizes and bytes; generation crosses update boundaries."""
    model, (tokens, mask) = tiny_llama(), padded()
    with attach(model, policy(name), interval=INTERVAL, storage=storage) as memory:
        together = greedy(model, tokens, attention_mask=mask, max_new_tokens=40)
    for row, length in enumerate(LENGTHS):
        with attach(model, policy(name), interval=INTERVAL, storage=storage) as alone:
            single = greedy(model, tokens[row : row + 1, -length:], max_new_tokens=40)
        assert together[row].tolist() == single[0].tolist()
        assert memory.trace(row) == alone.trace(0)
        assert memory.usage(row) == alone.usage(0)
        assert memory.usage(row).seen == length + 39
        for layer in range(2):
            assert [head.tolist() for head in memory.kept(layer, row)] == [
                head.tolist() for head in alone.kept(layer)
            ]


@pytest.mark.parametrize("protocol", ["streaming", "prune_after_prefill"])
@pytest.mark.parametrize("name", ["full", "h2o", "namm"])
def test_a_row_without_new_tokens_stays_frozen(name: str, protocol: str) -> None:
    model, tokens = tiny_llama(), tiny_tokens(2, 90)
    options: Any = {"interval": INTERVAL, "protocol": protocol}
    with attach(model, policy(name), **options) as memory, torch.no_grad():
        model(tokens[:, :70], attention_mask=torch.ones(2, 70))
        before, kept = memory.usage(1), memory.kept(0, 1)
        mask = torch.ones(2, 90)
        mask[1, 70:] = 0
        grown = model(tokens[:, 70:], past_key_values=memory.cache, attention_mask=mask).logits
        assert memory.usage(1) == before
        assert [a.tolist() for a in memory.kept(0, 1)] == [a.tolist() for a in kept]
    with attach(model, policy(name), **options) as single, torch.no_grad():
        model(tokens[:1, :70])
        alone = model(tokens[:1, 70:], past_key_values=single.cache).logits
    torch.testing.assert_close(grown[:1], alone, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", sorted(TINY))
def test_one_call_equals_many(name: str, storage: str) -> None:
    """Prefill in one forward is the chunked prefill, cut anywhere, down to single tokens."""
    model, tokens = TINY[name](), tiny_tokens(1, 130)
    with attach(model, policy(), interval=INTERVAL, storage=storage) as memory, torch.no_grad():
        whole = model(tokens).logits
        kept = [memory.kept(layer) for layer in range(2)]
        memory.reset()
        parts, start = [], 0
        for size in (50, 1, 1, 14, 40, 24):
            chunk = tokens[:, start : start + size]
            parts.append(model(chunk, past_key_values=memory.cache).logits)
            start += size
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=2e-4, rtol=1e-4)
    for layer in range(2):
        assert [h.tolist() for h in memory.kept(layer)] == [h.tolist() for h in kept[layer]]


def test_several_turns_on_one_cache_equal_one_sequence() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 100)
    with attach(model, policy(), interval=INTERVAL) as memory:
        first = model.generate(tokens, do_sample=False, max_new_tokens=20)
        turn = torch.cat([first, tiny_tokens(1, 30, seed=5)], dim=1)
        # A generated token may be the padding's: without a mask, generate takes it for padding.
        options = {"attention_mask": torch.ones_like(turn), "max_new_tokens": 20}
        second = model.generate(turn, do_sample=False, past_key_values=memory.cache, **options)
        trace = memory.trace()
        again = greedy(model, turn, **options)
        assert memory.trace() == trace
    assert second[:, turn.shape[1] :].tolist() == again.tolist()


def test_beam_search_with_everything_kept_is_beam_search() -> None:
    model, (tokens, mask) = tiny_llama(), padded()
    options = {"attention_mask": mask, "num_beams": 3, "max_new_tokens": 12}
    expected = greedy(model, tokens, **options)
    with attach(model, policy("full"), interval=INTERVAL):
        assert greedy(model, tokens, **options).tolist() == expected.tolist()
    with attach(model, policy("h2o"), interval=INTERVAL) as memory:
        greedy(model, tokens, **options)
        assert memory.rows == 9


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", ["h2o", "namm"])
def test_a_reordered_row_continues_the_row_it_came_from(name: str, storage: str) -> None:
    """What beam search asks of a cache: rows of different lengths, waiting queries included."""
    model, (tokens, mask) = tiny_llama(), padded()
    rest, order = tiny_tokens(3, 50, seed=9), torch.tensor([2, 0, 0])

    def run(memory: Memory, new: torch.Tensor, full_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(
            new, past_key_values=memory.cache, attention_mask=full_mask
        ).logits
        return logits

    with attach(model, policy(name), interval=INTERVAL, storage=storage) as memory:
        with torch.no_grad():
            model(tokens, attention_mask=mask)
            memory.cache.reorder_cache(order)
            got = run(memory, rest, torch.cat([mask[order], torch.ones(3, 50)], 1))
        traces = [memory.trace(row) for row in range(3)]
    for row, source in enumerate(order.tolist()):
        length = LENGTHS[source]
        alone = torch.cat([tokens[source : source + 1, -length:], rest[row : row + 1]], 1)
        with attach(model, policy(name), interval=INTERVAL, storage=storage) as single:
            positions = torch.arange(max(LENGTHS) - length, max(LENGTHS) + 50)[None]
            with torch.no_grad():
                expected = model(alone, position_ids=positions).logits[:, length:]
        torch.testing.assert_close(got[row : row + 1], expected, atol=2e-4, rtol=1e-4)
        assert traces[row] == single.trace()


def test_batches_can_be_repeated_and_selected() -> None:
    model, tokens = tiny_llama(), tiny_tokens(2, 70)
    with attach(model, policy(), interval=INTERVAL) as memory, torch.no_grad():
        model(tokens)
        usages = [memory.usage(0), memory.usage(1)]
        memory.cache.batch_repeat_interleave(2)
        assert [memory.usage(row) for row in range(4)] == [usages[0]] * 2 + [usages[1]] * 2
        memory.cache.batch_select_indices(torch.tensor([3]))
        assert memory.rows == 1
        assert memory.usage(0) == usages[1]


@pytest.mark.parametrize("masked", [512, 24])
def test_sliding_windows_are_those_of_the_model(
    masked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one mask, and in masks of a few queries each."""
    monkeypatch.setattr("namm_mm.memory.attention.MASKED", masked)
    model, tokens = tiny_mistral(sliding_window=48), tiny_tokens(1, 130)
    with torch.no_grad():
        expected = model(tokens).logits
        for storage in STORAGES:
            with attach(model, policy("full"), interval=INTERVAL, storage=storage) as memory:
                one = model(tokens[:, :100]).logits
                two = model(tokens[:, 100:], past_key_values=memory.cache).logits
            torch.testing.assert_close(torch.cat([one, two], 1), expected, atol=2e-5, rtol=1e-5)


def test_pruning_after_prefill_leaves_the_prompt_exact_and_evicts_once() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 150)
    with torch.no_grad():
        full = model(tokens).logits
        with attach(model, policy(), interval=INTERVAL, protocol="prune_after_prefill") as memory:
            memory.expect_prompt(150)
            pruned = model(tokens).logits
            assert memory.usage().tokens_final == 40
            assert memory.usage().tokens_peak == (150 + 40) / 2
            model(tokens[:, :1], past_key_values=memory.cache)
            model(tiny_tokens(1, 69, seed=2), past_key_values=memory.cache)
            assert memory.usage().updates == 1
            assert memory.usage().tokens_final == 110
    torch.testing.assert_close(pruned, full, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("storage", STORAGES)
def test_half_precision_runs_and_keeps_nearly_the_same(storage: str) -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 150)
    kept = {}
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype)
        with attach(model, policy(), interval=INTERVAL, storage=storage) as memory:
            greedy(model, tokens, max_new_tokens=20)
        assert memory.usage().updates == 5
        kept[dtype] = {
            (layer, head, position)
            for layer in range(2)
            for head, positions in enumerate(memory.kept(layer))
            for position in positions.tolist()
            if position < 100  # what is not protected for being new
        }
    common = len(kept[torch.float32] & kept[torch.bfloat16])
    assert common / len(kept[torch.float32]) > 0.6
