"""Under `attach` nothing is silently wrong: a call gives the right result, or is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)
from transformers.cache_utils import DynamicCache

from namm_mm.errors import RunError, UnsupportedError, UsageError
from namm_mm.memory import attach
from namm_mm.policies import Policy, create
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric


def recency() -> Policy:
    return create("recency", budget="tokens:24")


def test_the_user_s_own_cache_goes_on_over_several_calls() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 120)
    with torch.no_grad(), attach(model, recency(), interval=32) as memory:
        whole = model(tokens).logits
        own = DynamicCache()
        parts = [
            model(tokens[:, start:stop], past_key_values=own).logits
            for start, stop in ((0, 50), (50, 51), (51, 120))
        ]
        assert memory.usage().seen == 120
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-4)


def test_the_full_policy_with_the_user_s_own_cache_is_the_plain_model() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 60)
    own = DynamicCache()
    with torch.no_grad(), attach(model, "full"):
        parts = [
            model(part, past_key_values=own).logits
            for part in (tokens[:, :20], tokens[:, 20:40], tokens[:, 40:])
        ]
    with torch.no_grad():
        plain = model(tokens).logits
    torch.testing.assert_close(torch.cat(parts, 1), plain, rtol=1e-4, atol=1e-4)


def test_gradients_are_refused_when_they_are_asked_for() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 40)
    with attach(model, recency(), interval=16):
        loss = model(tokens, labels=tokens).loss
        with pytest.raises(UnsupportedError, match="gradients do not pass"):
            loss.backward()


def test_a_cache_is_refused_outside_its_block() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 40)
    with torch.no_grad():
        with attach(model, recency(), interval=16) as memory:
            model(tokens)
        with pytest.raises(RunError, match="was left"):
            model(tokens[:, :1], past_key_values=memory.cache)
        other = tiny_llama()
        with attach(other, recency(), interval=16):
            with pytest.raises(UnsupportedError, match="another `with attach"):
                other(tokens[:, :1], past_key_values=memory.cache)
            other(tokens)  # the refused call left nothing behind


def test_usage_tells_of_the_copy_that_the_last_call_went_on_with() -> None:
    """A prompt is read once; copies of its cache answer several questions."""
    model, tokens = tiny_llama(), tiny_tokens(1, 90)
    with torch.no_grad(), attach(model, recency(), interval=32) as memory:
        model(tokens[:, :40])
        prefix = memory.cache
        for length in (20, 50):
            own = copy.deepcopy(prefix)
            found = model(tokens[:, 40 : 40 + length], past_key_values=own).logits
            assert memory.usage().seen == 40 + length
            whole = model(tokens[:, : 40 + length]).logits[:, 40:]
            torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)


def test_a_model_that_never_calls_the_memory_s_attention_is_refused() -> None:
    config = OpenAIGPTConfig(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=256)
    model: Any = OpenAIGPTLMHeadModel(config)
    model.eval()
    with (
        torch.no_grad(),
        attach(model, create("recency", budget="tokens:4"), interval=8),
        pytest.raises(UnsupportedError, match="ran 0 of its 2 layers"),
    ):
        model(tiny_tokens(1, 40))


def test_a_sliding_window_that_a_family_puts_into_the_mask_alone_is_served() -> None:
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        vocab_size=97, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, moe_intermediate_size=16,
        shared_expert_intermediate_size=16, num_experts=2, num_experts_per_tok=1,
        use_sliding_window=True, sliding_window=16, max_window_layers=0,
        initializer_range=0.3,
    )  # fmt: skip
    model: Any = Qwen2MoeForCausalLM(config)
    model.eval()
    tokens = tiny_tokens(1, 60)
    with torch.no_grad():
        plain = model(tokens).logits
        with attach(model, "full"):
            found = model(tokens).logits
    torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-3)


class PeftModel(nn.Module):
    """Wraps a model as PEFT does: `generate` goes to the base model."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base

    def get_base_model(self) -> Any:
        return self.base

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.base(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        return self.base.generate(*args, **kwargs)


def test_a_wrapped_model_is_attached_inside() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 50)
    outputs = []
    for wrapped in (model, PeftModel(model)):
        with torch.no_grad(), attach(wrapped, recency(), interval=16) as memory:
            out = wrapped.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=8, do_sample=False
            )
        outputs.append(out.tolist())
        assert memory.usage().updates > 0
    assert outputs[0] == outputs[1]


def test_a_compiled_model_is_attached_inside() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 50)
    compiled: Any = torch.compile(model, backend="eager")
    with torch.no_grad(), attach(compiled, recency(), interval=16) as memory:
        compiled.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=4, do_sample=False
        )
    assert memory.usage().updates > 0


def test_what_cannot_be_is_refused_in_words() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 20)
    with torch.no_grad(), attach(model, recency()):
        with pytest.raises(UnsupportedError, match="by name"):
            model(tokens, None, None, DynamicCache())
        with pytest.raises(UsageError, match="empty prompt"):
            model(tokens[:, :0])
    model.set_attn_implementation("eager")
    model.config.output_attentions = True
    with (
        torch.no_grad(),
        attach(model, recency()),
        pytest.raises(UnsupportedError, match="output_attentions=True"),
    ):
        model(tokens)


def test_packed_rows_are_refused() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 40)
    restarting = torch.cat([torch.arange(25), torch.arange(15)])[None]
    with torch.no_grad(), attach(model, recency(), interval=16) as memory:
        with pytest.raises(UnsupportedError, match="packed"):
            model(tokens, position_ids=restarting)
        model(tokens, position_ids=torch.zeros_like(tokens))  # a model without positions
        assert memory.usage().seen == 40


def test_another_attention_inside_the_block_is_refused() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 40)
    with torch.no_grad(), attach(model, recency(), interval=16):
        model.set_attn_implementation("eager")
        with pytest.raises(RunError, match="set anew"):
            model(tokens)
