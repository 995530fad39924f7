"""Tiny models of every causal family of the installed transformers, made from its defaults.

A family's default configuration is shrunk by the names of its entries. What that leaves undone for
a family stands in :mod:`family_recipes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from family_recipes import OWN, PACKAGES, PARTS, START
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto import modeling_auto

VOCABULARY = 64
WINDOW = 24

SMALL: dict[str, Any] = {
    # layers
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "encoder_layers": 2,
    "decoder_layers": 2, "num_encoder_layers": 2, "num_decoder_layers": 2, "depth": 1,
    "num_blocks": 2, "max_window_layers": 0, "first_k_dense_replace": 1, "num_dense_layers": 1,
    "num_kv_shared_layers": 0, "num_nextn_predict_layers": 0,
    # width
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "emb_dim": 32, "embedding_size": 32,
    "embed_dim": 32, "word_embed_proj_dim": 32, "intermediate_size": 48, "ffn_dim": 48,
    "decoder_ffn_dim": 48, "encoder_ffn_dim": 48, "n_inner": 48, "d_inner": 48, "dff": 48,
    "ffn_hidden_size": 48, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 16, "expert_ffn_hidden_size": 16, "dim_ff": 48,
    "shared_experts_intermediate_size": 16, "dense_intermediate_size": 48, "out_hidden_size": 32,
    "intermediate_size_mlp": 48, "shared_intermediate_size": 16, "mlp_dim": 48,
    # heads
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "num_decoder_attention_heads": 4,
    "num_encoder_attention_heads": 4, "num_key_value_heads": 2, "num_kv_heads": 2, "head_dim": 8,
    "global_head_dim": 8, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2,
    "swa_head_dim": 8, "dim_head": 8, "d_head": 8, "kv_channels": 8, "attention_head_dim": 8,
    "rotary_dim": 4, "query_pre_attn_scalar": 8,
    # latent attention
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "qk_head_dim": 16, "index_head_dim": 8, "index_n_heads": 2, "index_topk": 16,
    # experts
    "num_experts": 4, "n_routed_experts": 4, "num_local_experts": 4, "moe_num_experts": 4,
    "num_experts_per_tok": 2, "num_experts_per_token": 2, "moe_topk": 2, "moe_k": 2, "n_group": 1,
    "topk_group": 1, "num_expert_group": 1, "n_shared_experts": 1, "num_shared_experts": 1,
    "moe_num_shared_experts": 1, "zero_expert_num": 2,
    # convolutions and states
    "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_dt_rank": 4,
    "mamba_chunk_size": 16, "mamba_d_ssm": 64, "mamba_expand": 2, "mamba_num_heads": 4,
    "mamba_head_dim": 16, "ssm_state_size": 8, "state_size": 8, "time_step_rank": 4,
    "chunk_size": 16, "n_groups": 1, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_head_dim": 8,
    "linear_num_heads": 4, "n_mamba_heads": 2, "mamba_headdim": 16, "lru_width": 32,
    "block_size": 16, "block_multiple_of": 16, "embedding_dim": 32,
    # positions
    "max_position_embeddings": 512, "n_positions": 512, "n_ctx": 512, "max_seq_len": 512,
    "max_target_positions": 512, "context_length": 512, "model_max_length": 512,
    "sliding_window": WINDOW, "sliding_window_size": WINDOW, "window_size": WINDOW,
    "attention_window_size": WINDOW, "local_attention": WINDOW, "attention_chunk_size": WINDOW,
    # vocabularies
    "vocab_size": VOCABULARY, "vocab_size_per_layer_input": VOCABULARY, "unpadded_vocab_size": 60,
    "image_token_id": 61, "image_token_index": 61, "video_token_id": 62, "video_token_index": 62,
    "audio_token_id": 63, "audio_token_index": 63,
    # the seeing part
    "image_size": 28, "patch_size": 14, "num_channels": 3, "vision_feature_layer": -1,
    "attention_hidden_size": 32, "input_embedding_size": 32, "output_embedding_size": 32,
}  # fmt: skip


def causal_families() -> dict[str, str]:
    """Model type and class of every language model of transformers."""
    return dict(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def seeing_families() -> dict[str, str]:
    """Model type and class of those that read images and text and are not among the former."""
    causal = causal_families()
    found = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return {family: name for family, name in found.items() if family not in causal}


def shrink(kind: Any, own: Mapping[str, Any], start: Mapping[str, Any] | None = None) -> Any:
    """Return a small configuration of class `kind`; the entries of `own` overrule the rules.

    `start` holds what the default configuration cannot be made without.
    """
    defaults = kind(**(start or {}))
    given = defaults.to_dict()
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if (
            name in SMALL
            and (value is not None or name == "head_dim")
            and not isinstance(value, (list, dict))
        ):
            changes[name] = SMALL[name]
        elif name.endswith("token_id") and isinstance(value, int) and name not in SMALL:
            changes[name] = min(value, VOCABULARY - 1)
    if "kv_lora_rank" in given:  # keys and values of latent attention are those of all heads
        changes["num_key_value_heads"] = 4
    for name in ("initializer_range", "init_std", "std"):
        if name in given:
            changes[name] = 0.3
    if "is_decoder" in given and not kind.sub_configs:
        changes["is_decoder"] = True
    layers = next((n for n in ("num_hidden_layers", "n_layer") if n in changes), None)
    kinds = given.get("layer_types")
    if kinds and layers:
        seen = list(dict.fromkeys(kinds))
        changes[layers] = max(2, len(seen))
        changes["layer_types"] = (seen * 2)[: changes[layers]]
    for name in kind.sub_configs:
        inner = vars(defaults).get(name)
        if inner is not None:
            changes[name] = shrink(type(inner), own.get(name, {}))
    changes.update({name: value for name, value in own.items() if name not in kind.sub_configs})
    return kind(**changes)


def tiny_config(family: str) -> Any:
    """Return a small configuration of `family`."""
    return shrink(CONFIG_MAPPING[family], OWN.get(family, {}), START.get(family))


def tiny_model(family: str, seed: int = 0) -> Any:
    """Return a small model of `family`, or the part to try, in evaluation mode, float32."""
    if family in PACKAGES:
        inner = tiny_config(family).get_text_config(decoder=True)
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(inner).eval()  # type: ignore[no-untyped-call]
    return whole_model(family, seed).get_submodule(PARTS.get(family, ""))


def whole_model(family: str, seed: int = 0) -> Any:
    """Return a small model of `family` in evaluation mode, float32."""
    names = {**causal_families(), **seeing_families()}
    kind = getattr(transformers, names[family])
    config = tiny_config(family)
    if kind.config_class is not None and not isinstance(config, kind.config_class):
        inner = config.get_text_config(decoder=True)
        config = inner if isinstance(inner, kind.config_class) else config
    torch.manual_seed(seed)
    model = kind(config)
    if family == "xmod":
        model.set_default_language("en_XX")
    return model.eval()


def inputs(model: Any, tokens: Tensor) -> dict[str, Tensor]:
    """Return the inputs of a call with `tokens` (row, column); an image where one is asked for."""
    found = {"input_ids": tokens}
    if model.config.model_type == "idefics":
        rows, columns = tokens.shape
        found["pixel_values"] = (
            torch.linspace(-1, 1, 3 * 28 * 28).view(1, 1, 3, 28, 28).expand(rows, -1, -1, -1, -1)
        )
        found["image_attention_mask"] = torch.ones(rows, columns, 1, dtype=torch.long)
    return found
