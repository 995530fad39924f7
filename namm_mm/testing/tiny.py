"""Tiny random models on which a memory can be seen to be right or wrong.

Weights are drawn wide (0.3). At the usual 0.02 a random model attends evenly to everything, and no
test of an attention memory can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

WIDE = 0.3
VOCABULARY = 97

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": WIDE,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}


def tiny_llama(seed: int = 0, **changes: Any) -> Any:
    """Return a Llama of 2 layers, with 4 query heads on 2 KV heads and rotary positions."""
    torch.manual_seed(seed)
    model: Any = LlamaForCausalLM(LlamaConfig(**{**_SIZES, **changes}))
    return model.eval()


def tiny_mistral(seed: int = 0, **changes: Any) -> Any:
    """Return a Mistral as the Llama, with a sliding window if ``sliding_window`` is given."""
    torch.manual_seed(seed)
    options = {**_SIZES, "sliding_window": None, **changes}
    model: Any = MistralForCausalLM(MistralConfig(**options))
    return model.eval()


def tiny_qwen2(seed: int = 0, **changes: Any) -> Any:
    """Return a Qwen2 as the Llama, with biases."""
    torch.manual_seed(seed)
    model: Any = Qwen2ForCausalLM(Qwen2Config(**{**_SIZES, **changes}))
    return model.eval()


def tiny_gpt2(seed: int = 0, **changes: Any) -> Any:
    """Return a GPT-2: every query head has its own KV head, positions are learned."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 1024,
        "initializer_range": WIDE,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    model: Any = GPT2LMHeadModel(GPT2Config(**{**options, **changes}))
    return model.eval()


TINY: dict[str, Callable[..., Any]] = {
    "llama": tiny_llama,
    "mistral": tiny_mistral,
    "qwen2": tiny_qwen2,
    "gpt2": tiny_gpt2,
}


def tiny_tokens(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Return (row, column) int64 random tokens; 0 is reserved for padding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, VOCABULARY, (rows, columns), generator=generator)
