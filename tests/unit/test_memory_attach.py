"""Attaching: what is promised about bytes, the model afterwards, and what is refused."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import StaticCache, T5Config, T5ForConditionalGeneration
from transformers.cache_utils import DynamicCache

from namm_mm.errors import RunError, UnsupportedError, UsageError
from namm_mm.memory import attach
from namm_mm.policies import Budget, Threshold, create
from namm_mm.policies.base import KeepAll, LayerView, Policy
from namm_mm.testing.tiny import tiny_gpt2, tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric

STORAGES = ("shared", "per_head")


def h2o(tokens: int = 40) -> Any:
    return create("h2o", budget=Budget(tokens=tokens))


def live_bytes() -> int:
    """Bytes of all tensor storages that are alive."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):  # isinstance would run properties
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


class Hoarder(Policy):
    """Head 0 keeps everything, the others nearly nothing."""

    name = "hoarder"

    def __init__(self) -> None:
        super().__init__(budget=Threshold())

    def score(self, view: LayerView) -> torch.Tensor:
        score = torch.full(view.positions.shape, -1.0)
        score[:, 0] = 1.0
        return score


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", ["full", "h2o", "random", "namm"])
def test_reported_bytes_are_those_that_are_allocated(name: str, storage: str) -> None:
    model, tokens = tiny_llama(), tiny_tokens(2, 139)
    policy = create(name) if name == "full" else create(name, budget=Budget(tokens=40))
    with torch.no_grad(), attach(model, policy, interval=32, storage=storage) as memory:
        model(tokens)  # tables that transformers keeps are made now
        memory.reset()
        before = live_bytes()
        model(tokens)
        allocated = live_bytes() - before
        reported = sum(memory.usage(row).bytes_final for row in range(2))
        # what is alive besides the cache: lengths and sizes, a few integers for each head
        assert 0 <= allocated - reported < 6000
        assert reported > 20_000
        use = memory.usage()
        assert use.bytes_peak >= use.bytes_final >= (use.live_final or 0) > 0.7 * use.bytes_final
        assert use.bytes_peak >= (use.live_peak or 0) >= (use.live_final or 0)


def test_heads_of_their_own_size_free_what_they_drop() -> None:
    """One head that hoards costs its own tokens, not those of all heads."""
    model, tokens = tiny_llama(), tiny_tokens(1, 512)
    final = {}
    for storage in STORAGES:
        with (
            torch.no_grad(),
            attach(model, Hoarder(), interval=32, storage=storage) as memory,
        ):
            model(tokens)
        final[storage] = memory.usage()
        lengths = [len(head) for head in memory.kept(0)]
        assert lengths == ([512, 512] if storage == "shared" else [512, 1])
    per_slot = 2 * 8 * 4 + 4  # keys, values, position
    assert final["shared"].live_final == 2 * (512 + 512) * per_slot
    assert final["per_head"].live_final == 2 * (512 + 1) * per_slot
    assert final["shared"].live_peak == 2 * 1024 * per_slot
    assert final["shared"].bytes_final == 2 * 2 * (512 + 32) * per_slot
    assert final["per_head"].bytes_final == 2 * (512 + 32 + 1 + 32) * per_slot


def test_one_layer_at_a_time_is_larger_than_its_budget() -> None:
    """Eviction happens inside the call: the peak is far below the prompt's full cache."""
    model, tokens = tiny_llama(), tiny_tokens(1, 512)
    with torch.no_grad(), attach(model, h2o(), interval=32) as memory:
        model(tokens)
    assert memory.usage().tokens_peak <= 40 + 32
    assert memory.usage().tokens_final == 40


def test_the_peak_counts_the_room_made_by_an_eviction() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 32)
    with torch.no_grad(), attach(model, h2o(tokens=40), interval=32) as memory:
        model(tokens)
    assert memory.usage().bytes_peak >= memory.usage().bytes_final


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the largest tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return made


@pytest.mark.parametrize("protocol", ["streaming", "prune_after_prefill"])
@pytest.mark.parametrize("name", ["full", "h2o", "namm"])
def test_nothing_of_a_prompt_is_as_large_as_the_prompt_squared(name: str, protocol: str) -> None:
    """Neither weights nor masks, however attention is run: they grow with the prompt alone."""
    length, model = 2048, tiny_llama(max_position_embeddings=4096)
    policy = create(name) if name == "full" else create(name, budget=Budget(tokens=1500))
    largest = Largest()  # type: ignore[no-untyped-call]
    with torch.no_grad(), attach(model, policy, interval=256, protocol=protocol) as memory, largest:
        model(tiny_tokens(1, length // 2))
        model(tiny_tokens(1, length // 2), past_key_values=memory.cache)
    assert 0 < largest.numbers <= 512 * length


def test_the_model_is_left_as_it_was_found() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 60)
    with torch.no_grad():
        before = model(tokens).logits
        implementation = model.config._attn_implementation
        with pytest.raises(ZeroDivisionError), attach(model, h2o(), interval=32):
            raise ZeroDivisionError
        with attach(model, h2o(), interval=32):
            model(tokens)
        assert model.config._attn_implementation == implementation
        assert not model._forward_pre_hooks
        torch.testing.assert_close(model(tokens).logits, before)
        assert type(model(tokens).past_key_values) is DynamicCache


def test_an_interrupted_call_does_not_spoil_the_next() -> None:
    """An error inside attention leaves nothing pending for another model's attention."""
    model, tokens = tiny_llama(), tiny_tokens(1, 60)

    class Broken(Hoarder):
        def score(self, view: LayerView) -> torch.Tensor:
            return torch.full(view.positions.shape, float("nan"))

    with attach(model, Broken(), interval=32), pytest.raises(UsageError, match="NaN in layer 0"):
        model(tokens)
    with attach(model, h2o(), interval=32) as memory:  # keys that reach no attention call
        memory.cache.update(torch.ones(1, 2, 4, 8), torch.ones(1, 2, 4, 8), layer_idx=0)
    with torch.no_grad(), attach(model, h2o(), interval=32) as memory:
        model(tokens)
    assert memory.usage().updates == 1


def test_what_is_not_served_says_so() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 40)
    used = DynamicCache()
    model(tokens, past_key_values=used)
    mask4d = torch.ones(1, 1, 40, 40, dtype=torch.bool)
    static = StaticCache(model.config, max_cache_len=64)
    for options, words in (
        ({"past_key_values": static}, "StaticCache"),
        ({"past_key_values": used}, "length 40"),
        ({"use_cache": False}, "use_cache=False"),
        ({"output_attentions": True}, "output_attentions=True"),
        ({"attention_mask": mask4d}, "padding mask"),
        ({"attention_mask": torch.ones(1, 30)}, "30 columns, expected 40"),
    ):
        with attach(model, h2o(), interval=32), pytest.raises(UnsupportedError, match=words):
            model(tokens, **options)
    with attach(model, h2o(), interval=32), pytest.raises(UnsupportedError, match="assisted"):
        model.generate(tokens, assistant_model=tiny_llama(1), max_new_tokens=8, do_sample=False)
    with attach(model, h2o(), interval=32), pytest.raises(UnsupportedError, match="StaticCache"):
        model.generate(tokens, cache_implementation="static", max_new_tokens=2, do_sample=False)
    with attach(model, h2o(), interval=32) as memory:
        model(tokens)
        with pytest.raises(UnsupportedError, match="batch of 2"):
            model(tiny_tokens(2, 5), past_key_values=memory.cache)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: torch.nn.Linear(2, 2), "transformers model"),
        (
            lambda: T5ForConditionalGeneration(
                T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
            ),
            "decoder-only",
        ),
        (lambda: tiny_gpt2(attn_pdrop=0.1).train(), "model.eval"),
        (
            lambda: tiny_llama(layer_types=["full_attention", "chunked_attention"]),
            "chunked_attention",
        ),
    ],
    ids=["not transformers", "encoder-decoder", "training", "chunked"],
)
def test_models_that_cannot_carry_a_memory_say_why(model: Any, words: str) -> None:
    built = model()
    with pytest.raises(UnsupportedError, match=words), attach(built, h2o(), interval=32):
        built(tiny_tokens(1, 40))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"interval": 0}, "got 0"),
        ({"storage": "per-head"}, "Did you mean 'per_head'"),
        ({"protocol": "stream"}, "Did you mean 'streaming'"),
    ],
)
def test_wrong_options_name_the_right_ones(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words), attach(tiny_llama(), h2o(), **options):
        pass


def test_a_namm_wants_an_interval_of_whole_hops() -> None:
    with (
        pytest.raises(UsageError, match="Nearest: 32 or 48"),
        attach(tiny_llama(), create("namm"), interval=40),
    ):
        pass


def test_two_memories_on_one_model_are_refused() -> None:
    model = tiny_llama()
    second = attach(model, h2o(), interval=32)
    with attach(model, h2o(), interval=32), pytest.raises(UsageError, match="already"):
        second.__enter__()


def test_a_part_of_the_model_called_alone_finds_no_cache() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 9)
    with attach(model, h2o(), interval=32), pytest.raises(RunError, match="memory's cache"):
        model.model(tokens, use_cache=False)


def test_budgets_refuse_what_cannot_be() -> None:
    for options, words in (
        ({"tokens": 0}, "got 0"),
        ({"fraction": 0.0}, "got 0.0"),
        ({"fraction": 1.5}, "got 1.5"),
        ({}, "exactly one"),
        ({"tokens": 4, "fraction": 0.5}, "exactly one"),
    ):
        with pytest.raises(UsageError, match=words):
            Budget(**options)
    with pytest.raises(UsageError, match="Did you mean 'recency'"):
        create("recent")
    with pytest.raises(UsageError, match="Did you mean 'recents'"):
        create("h2o", recent=4)
    assert KeepAll().describe() == "full"
