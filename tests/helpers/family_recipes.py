"""Configuration values of families that the rules of :mod:`families` do not make small."""

from __future__ import annotations

from typing import Any

_MROPE = {"text_config": {"rope_parameters": {
    "rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}}  # fmt: skip
_HYBRID = {"num_hidden_layers": 3, "attn_layer_period": 3, "attn_layer_offset": 1}

_ASSISTANT = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0,
              "num_kv_shared_layers": 2}  # fmt: skip
_MUSIC = {"num_codebooks": 1, "initializer_factor": 0.3}
_COMPASS = {"layer_types": ["sliding_attention", "full_attention"], "rope_parameters": {
    kind: {"rope_type": "default", "rope_theta": 1e4}
    for kind in ("sliding_attention", "full_attention")}}  # fmt: skip
_QWEN4 = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 16,
          "indexer_compress_ratio": 4, "ngram_vocab_size_base": 64}  # fmt: skip

_SHARED = {"num_hidden_layers": 4, "num_kv_shared_layers": 2,
           "layer_types": ["sliding_attention", "full_attention"] * 2}  # fmt: skip

OWN: dict[str, dict[str, Any]] = {
    "nemotron": {"num_key_value_heads": 2},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
              "n_group": 1, "topk_group": 1},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dbrx": {"attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "glm4v_moe": {"text_config": {"rope_parameters": {
        "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5,
        "mrope_section": [1, 1, 0]}}},
    "chameleon": {"vocabulary_map": {"<image>": 61}},
    "bamba": {"attn_layer_indices": [1], "num_hidden_layers": 3},
    "jamba": {**_HYBRID, "expert_layer_period": 2, "expert_layer_offset": 1},
    "granitemoehybrid": {
        "num_hidden_layers": 3,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    },
    "zamba": {"num_hidden_layers": 3, "attn_layer_period": 2, "attn_layer_offset": 1,
              "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
              "attention_head_dim": 16, "attention_hidden_size": 64},
    "zamba2": {"num_hidden_layers": 3,
               "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
               "hybrid_layer_ids": [1, 2], "attention_head_dim": 16, "attention_hidden_size": 64,
               "mamba_headdim": 16, "n_mamba_heads": 4},
    "recurrent_gemma": {"num_hidden_layers": 3, "num_attention_heads": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "zaya": {"num_experts_per_tok": 1},
    "dots3_note_text": {"num_key_value_heads": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"], "num_hidden_layers": 3},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "xmod": {"default_language": "en_XX"},
    "gemma4_assistant": {"text_config": _ASSISTANT},
    "gemma4_unified_assistant": {"text_config": _ASSISTANT},
    "gemma3n": {"text_config": _SHARED},
    "gemma3n_text": _SHARED,
    "glm5_next": {"text_config": {"qk_rope_head_dim": 0, "index_kpool": 4}},
    "cohere_compass": {"text_config": _COMPASS},
    "cohere_compass_text": _COMPASS,
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},
    "step3p7": {"text_config": {
        "sliding_window": 24, "layer_types": ["full_attention", "sliding_attention"]}},
    "musicgen": {"decoder": _MUSIC},
    "musicgen_melody": {"decoder": _MUSIC},
    "blt": {"encoder_hash_byte_group_size": [3], "encoder_hash_byte_group_vocab": 64,
            "encoder_config": {"hidden_size_global": 32},
            "decoder_config": {"hidden_size_global": 32}},
    "dots3_note": {
        "vision_config": {"mlp_layer_types": ["dense", "dense"], "per_layer_config": {},
                          "adapter_in_dim": 32, "adapter_out_dim": 32},
        "text_config": {"num_key_value_heads": 4},
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32}},
    "blip-2": {"image_token_index": 61},
    "idefics": {"alpha_initializer": "ones"},
    "deepseek_ocr2": {"text_config": {
        "mlp_layer_types": ["dense", "sparse"], "num_experts_per_tok": 2, "n_group": 1,
        "topk_group": 1}},
    "diffusion_gemma": {"text_config": {
        "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16}},
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": {
        "rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}},
    "granite4_vision": {"deepstack_layer_map": [[0, 1]], "downsample_rate": "1/2",
                        "vision_config": {"hidden_size": 64}},
    "hunyuan_vl": {"text_config": {"rope_parameters": {
        "rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 1, 1]}}},
    "inkling2": {"vision_config": {"text_hidden_size": 32}},
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 0], "text_hidden_size": 32}},
    "muse_spark": {
        "text_config": {"moe_hidden_size": 32}, "projector_hidden_size": 32,
        "audio_config": {"num_hidden_layers": 4, "hidden_sizes": [8] * 4, "depths": [1] * 4}},
    "nemotron_h_omni": {"vision_config": {"video_temporal_patch_size": 2}},
    "mistral4": {"head_dim": 16},
    **{name: _MROPE for name in (
        "cosmos3_edge", "glm46v", "glm4v", "glm_ocr", "glmga", "paddleocr_vl", "qwen2_vl",
        "qwen2_5_vl", "qwen2_5_omni_thinker", "qwen3_vl", "qwen3_vl_moe",
    )},
}  # fmt: skip

START: dict[str, dict[str, Any]] = {
    "gemma4_assistant": {"text_config": {
        "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
}  # fmt: skip
"""Values without which there is no default configuration."""

PARTS: dict[str, str] = {
    "blip": "text_decoder",
    "blip-2": "language_model",
    "instructblip": "language_model",
    "instructblipvideo": "language_model",
    "kosmos-2": "text_model",
}
"""The part of a model that its ``generate`` runs token by token, and that is tried."""

PACKAGES: dict[str, str] = {
    "fast_vlm": "timm",
    "gemma3n": "timm",
    "inkling_mm_model": "scipy",
    "perception_lm": "timm",
}
"""Packages that the vision tower of a family needs; its text decoder is tried alone."""
