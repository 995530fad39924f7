"""The models of the zoo: their shapes, vocabularies, corpora and seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from namm_mm.errors import UsageError, message

POSITIONS = 512
SPREAD = 0.06  # of the first weights: these models are narrow


@dataclass(frozen=True)
class Recipe:
    """One model of the zoo.

    Attributes
    ----------
    family
        ``llama``, ``qwen2``, ``qwen3``, ``neox`` (rotary positions) or ``gpt2`` (learned ones).
    layers, width, heads, kv_heads, head_dim
        Its shape; ``gpt2`` and ``neox`` have as many kv heads as heads.
    vocabulary
        Tokens of its own tokenizer.
    corpus
        ``prose`` or ``code``: what its tokenizer and its plain text are made of.
    seed
        Of its weights and its training samples.
    """

    family: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    corpus: str
    seed: int


RECIPES: Mapping[str, Recipe] = {
    "llama_small": Recipe("llama", 2, 64, 4, 4, 16, 192, "prose", 1),
    "llama_code": Recipe("llama", 3, 64, 4, 2, 16, 192, "code", 2),
    "llama_wide": Recipe("llama", 3, 96, 4, 2, 64, 224, "prose", 5),
    "qwen2_one": Recipe("qwen2", 2, 64, 4, 1, 32, 192, "code", 6),
    "qwen3_single": Recipe("qwen3", 3, 64, 1, 1, 64, 160, "prose", 8),
    "neox_small": Recipe("neox", 2, 64, 4, 4, 16, 192, "prose", 10),
    "llama_narrow": Recipe("llama", 2, 96, 8, 2, 16, 256, "code", 4),
    "gpt2_deep": Recipe("gpt2", 3, 64, 4, 4, 16, 160, "prose", 12),
    "qwen3_pair": Recipe("qwen3", 3, 64, 2, 2, 32, 192, "code", 9),
    "llama_deep": Recipe("llama", 4, 64, 6, 2, 16, 160, "prose", 3),
    "qwen2_large": Recipe("qwen2", 3, 96, 3, 3, 32, 256, "prose", 7),
    "gpt2_small": Recipe("gpt2", 2, 64, 4, 4, 16, 192, "code", 11),
}
"""The models by name. None was chosen by what a policy does on it."""

LEFT_OUT = ("llama_wide", "gpt2_deep")
"""Models for validation alone."""


def recipe(name: str) -> Recipe:
    """Return a recipe; raise `UsageError` for an unknown name."""
    if name not in RECIPES:
        raise UsageError(
            message("unknown model of the zoo", given=name, expected="a known one", valid=RECIPES)
        )
    return RECIPES[name]


def new_model(chosen: Recipe) -> PreTrainedModel:
    """Return the untrained model; its weights follow the global seed of torch."""
    return _BUILDERS[chosen.family](chosen)


def _common(chosen: Recipe) -> dict[str, Any]:
    return {
        "vocab_size": chosen.vocabulary,
        "tie_word_embeddings": True,
        "initializer_range": SPREAD,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _modern(chosen: Recipe) -> dict[str, Any]:
    return {
        **_common(chosen),
        "hidden_size": chosen.width,
        "intermediate_size": 2 * chosen.width,
        "num_hidden_layers": chosen.layers,
        "num_attention_heads": chosen.heads,
        "num_key_value_heads": chosen.kv_heads,
        "head_dim": chosen.head_dim,
        "max_position_embeddings": POSITIONS,
    }


def _llama(chosen: Recipe) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**_modern(chosen)))


def _qwen2(chosen: Recipe) -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**_modern(chosen)))


def _qwen3(chosen: Recipe) -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**_modern(chosen)))


def _neox(chosen: Recipe) -> PreTrainedModel:
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            **_common(chosen),
            hidden_size=chosen.width,
            intermediate_size=2 * chosen.width,
            num_hidden_layers=chosen.layers,
            num_attention_heads=chosen.heads,
            max_position_embeddings=POSITIONS,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "partial_rotary_factor": 0.5,
            },
            hidden_dropout=0.0,
            attention_dropout=0.0,
        )
    )


def _gpt2(chosen: Recipe) -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            **_common(chosen),
            n_embd=chosen.width,
            n_inner=2 * chosen.width,
            n_layer=chosen.layers,
            n_head=chosen.heads,
            n_positions=POSITIONS,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


_BUILDERS: Mapping[str, Callable[[Recipe], PreTrainedModel]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "neox": _neox,
    "gpt2": _gpt2,
}
