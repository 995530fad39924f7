"""Tiny random checkpoints of the three video classes, saved as the hub lays them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}"
    "{% if c['type'] == 'video' %}<video> {% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endfor %} ASSISTANT:"
)


def make_tokenizer() -> Any:
    from namm_mm.build.pocket_video_model import make_tokenizer

    return make_tokenizer()


def save_checkpoint(folder: Path, model_type: str, *, seed: int = 0, edge: int = 32) -> Any:
    """Save a tiny model of `model_type` and return it. Weights are wide, so that tokens matter."""
    import transformers

    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    ids = {
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
        "video_token_index": tokenizer.convert_tokens_to_ids("<video>"),
    }
    tower: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": edge,
        "patch_size": 8,
        "initializer_range": 0.3,
    }
    language: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    size: dict[str, Any] = {
        "size": {"shortest_edge": edge},
        "crop_size": {"height": edge, "width": edge},
    }
    processor: dict[str, Any] = {"patch_size": 8}
    config: Any
    model: Any
    common: dict[str, Any] = {**ids, "initializer_range": 0.3}
    if model_type == "llava_next_video":
        config = transformers.LlavaNextVideoConfig(
            vision_config=transformers.CLIPVisionConfig(**tower),
            text_config=transformers.LlamaConfig(**language),
            **common,
        )
        model = transformers.LlavaNextVideoForConditionalGeneration(config)
    elif model_type == "llava_onevision":
        config = transformers.LlavaOnevisionConfig(
            vision_config=transformers.SiglipVisionConfig(vision_use_head=False, **tower),
            text_config=transformers.Qwen2Config(**language),
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
            **common,
        )
        model = transformers.LlavaOnevisionForConditionalGeneration(config)
        size = {"size": {"height": edge, "width": edge}}
        processor = {"num_image_tokens": (edge // 8) ** 2}
    else:
        config = transformers.VideoLlavaConfig(
            vision_config=transformers.CLIPVisionConfig(**tower),
            text_config=transformers.LlamaConfig(**language),
            **common,
        )
        model = transformers.VideoLlavaForConditionalGeneration(config)
    model.eval().save_pretrained(folder)
    tokenizer.chat_template = TEMPLATE if model_type == "llava_next_video" else None
    tokenizer.save_pretrained(folder)
    mean = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25], **size}
    (folder / "preprocessor_config.json").write_text(json.dumps(mean))
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return model
