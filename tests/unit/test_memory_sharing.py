"""Guidance, copies and threads: each call has its cache, and the memory tells of the right one."""

from __future__ import annotations

import copy
import threading
from typing import Any

import families
import pytest
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from namm_mm.errors import UnsupportedError
from namm_mm.memory import attach
from namm_mm.policies import Policy, create
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric


def recency() -> Policy:
    return create("recency", budget="tokens:24")


def greedy(model: Any, tokens: Tensor, **options: Any) -> list[int]:
    out = model.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=False, **options)
    found: list[int] = out[0, tokens.shape[1] :].tolist()
    return found


@pytest.mark.parametrize("negative", [True, False])
def test_under_guidance_the_memory_tells_of_the_prompt(negative: bool) -> None:
    model, tokens, other = tiny_llama(), tiny_tokens(1, 60), tiny_tokens(1, 35, seed=4)
    options: Any = {"guidance_scale": 1.5, "max_new_tokens": 8}
    if negative:
        options["negative_prompt_ids"] = other
    plain = greedy(model, tokens, **options)
    with attach(model, "full") as memory:
        assert greedy(model, tokens, **options) == plain
        assert memory.usage().seen == 67
        assert greedy(model, other, max_new_tokens=2)
        assert memory.usage().seen == 36, "the next call is reported again"
    with attach(model, recency(), interval=16) as memory:
        found = greedy(model, tokens, **options)
        assert memory.usage().seen == 67
        again, first = [], memory.cache
        with torch.no_grad():
            prompts = (tokens, other if negative else tokens[:, -1:])
            caches, steps = [DynamicCache(), DynamicCache()], prompts
            for _ in range(8):
                sure, unsure = (
                    model(step, past_key_values=cache).logits[:, -1].log_softmax(-1)
                    for step, cache in zip(steps, caches, strict=True)
                )
                best = (unsure + 1.5 * (sure - unsure)).argmax(-1, keepdim=True)
                again.append(int(best))
                steps = (best, best)
        assert found == again
        assert first.sequences.seen == [67]


def test_a_copied_cache_and_the_memory_go_on_apart() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 90)
    with torch.no_grad(), attach(model, recency(), interval=16) as memory:
        model(tokens[:, :50])
        copied, kept = copy.deepcopy(memory.cache), memory.kept(0)[0].tolist()
        whole = model(tokens[:, 50:], past_key_values=memory.cache).logits
        later = model(tokens[:, 50:], past_key_values=copied).logits
        torch.testing.assert_close(later, whole)
        assert memory.kept(0)[0].tolist() != kept
    with torch.no_grad(), attach(model, recency(), interval=16) as memory:
        model(tokens[:, :50])
        own = copy.deepcopy(memory.cache)
        model(tokens[:, 50:], past_key_values=own)
        memory.cache = copied = copy.deepcopy(own)
        assert memory.usage().seen == 90
        assert memory.cache is copied


@pytest.mark.filterwarnings("ignore")
def test_a_copied_cache_of_a_hybrid_takes_its_states_along() -> None:
    model = families.tiny_model("qwen3_next")
    tokens = torch.randint(3, 58, (1, 60), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), attach(model, recency(), interval=16) as memory:
        model(input_ids=tokens[:, :40])
        copied = copy.deepcopy(memory.cache)
        model(input_ids=tokens[:, 5:25], past_key_values=memory.cache)
        later = model(input_ids=tokens[:, 40:41], past_key_values=copied).logits
        model(input_ids=tokens[:, :40])
        expected = model(input_ids=tokens[:, 40:41], past_key_values=memory.cache).logits
    torch.testing.assert_close(later, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["qwen3_next", "falcon_h1", "gemma2", "gpt_oss"])
def test_beams_and_padded_rows_of_new_families(family: str) -> None:
    model = families.tiny_model(family)
    tokens = torch.randint(3, 58, (2, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[1, :9] = 0
    options: Any = {
        "do_sample": False,
        "max_new_tokens": 6,
        "pad_token_id": 0,
        "eos_token_id": None,
    }
    plain = model.generate(tokens, attention_mask=mask, num_beams=3, **options)
    with attach(model, "full", interval=16):
        found = model.generate(tokens, attention_mask=mask, num_beams=3, **options)
    assert found.tolist() == plain.tolist()
    with attach(model, recency(), interval=16):
        both = model.generate(tokens, attention_mask=mask, **options)
        alone = model.generate(tokens[1:, 9:], **options)
    assert both[1, 40:].tolist() == alone[0, 31:].tolist()


def test_threads_generate_at_the_same_time() -> None:
    model = tiny_llama()
    prompts = [tiny_tokens(1, 40 + 7 * seed, seed=seed) for seed in range(4)]
    with attach(model, recency(), interval=16):
        expected = [greedy(model, prompt, max_new_tokens=12) for prompt in prompts]
        found: dict[int, list[int]] = {}

        def work(number: int) -> None:
            found[number] = greedy(model, prompts[number], max_new_tokens=12)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[number] for number in range(4)] == expected


def test_rows_of_a_user_s_own_cache_are_not_changed_in_silence() -> None:
    model, own = tiny_llama(), DynamicCache()
    with torch.no_grad(), attach(model, recency(), interval=16):
        model(tiny_tokens(2, 40), past_key_values=own)
        with pytest.raises(UnsupportedError, match="rows of a DynamicCache"):
            own.reorder_cache(torch.LongTensor([1, 0]))
        with pytest.raises(UnsupportedError, match="rows of a DynamicCache"):
            own.batch_repeat_interleave(2)
        with pytest.raises(UnsupportedError, match="cannot be cropped"):
            own.crop(10)
