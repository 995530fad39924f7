"""Tiny random checkpoints of the served video classes, saved as they are published.

Published means: the weights in shards with an index, under the names that files on the hub have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}"
    "{% if c['type'] == 'video' %}<video> {% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endfor %} ASSISTANT:"
)


def make_tokenizer() -> Any:
    from research.builders.video.pocket_model import make_tokenizer

    return make_tokenizer()


def save_checkpoint(folder: Path, model_type: str, *, seed: int = 0, edge: int = 32) -> Any:
    """Save a tiny model of `model_type` and return it. Weights are wide, so that tokens matter."""
    import transformers

    if model_type == "llava_qwen":
        return save_llava_qwen(folder, seed=seed, edge=edge)

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
    publish(folder, lambda key: re.sub(r"^(\w+_tower)\.", r"\1.vision_model.", key))
    tokenizer.chat_template = TEMPLATE if model_type == "llava_next_video" else None
    tokenizer.save_pretrained(folder)
    mean = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25], **size}
    (folder / "preprocessor_config.json").write_text(json.dumps(mean))
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return model


def save_llava(folder: Path, *, seed: int = 0, edge: int = 32) -> None:
    """Save a tiny LLaVA for images, which lmms-eval's own wrapper loads."""
    import transformers

    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    wide: dict[str, Any] = {"initializer_range": 0.3}
    config: Any = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=edge,
            patch_size=8,
            **wide,
        ),
        text_config=transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **wide,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        **wide,
    )
    model: Any = transformers.LlavaForConditionalGeneration(config)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pixels = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": edge},
        "crop_size": {"height": edge, "width": edge},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    processor = {
        "processor_class": "LlavaProcessor",
        "patch_size": 8,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    (folder / "processor_config.json").write_text(json.dumps(processor))


def publish(folder: Path, rename: Callable[[str], str]) -> None:
    """Write ``model.safetensors`` again in shards, with other names."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_shards(folder, {rename(key): weight for key, weight in weights.items()})


def save_shards(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write two shards, the names of the weights in turn, and the index."""
    from safetensors.torch import save_file

    names = sorted(weights)
    places: dict[str, str] = {}
    for number, keys in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({key: weights[key] for key in keys}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(keys, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def save_llava_qwen(
    folder: Path, *, seed: int, edge: int, newline: str = "grid", mode: str = "average"
) -> Any:
    """Save a tiny model in the format of LLaVA's authors: no preprocessor, no video token."""
    from transformers import SiglipVisionConfig

    from namm_mm.adapters.video.llava_qwen import LlavaQwenForConditionalGeneration, read_config

    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    tower = folder / "tower"
    vision = SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=edge + 8,
        patch_size=8,
    )
    vision.save_pretrained(tower)
    plain = {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        "mm_vision_tower": str(tower),
        "mm_spatial_pool_mode": mode,
        "mm_spatial_pool_stride": 2,
        "mm_newline_position": newline,
        "mm_patch_merge_type": "spatial_unpad",
        "vocab_size": len(tokenizer) + 8,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": False,
    }
    model: Any = LlavaQwenForConditionalGeneration(read_config(plain, "tiny"))
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    save_shards(folder, {published_name(k): v for k, v in model.state_dict().items()})
    (folder / "config.json").write_text(json.dumps(plain))
    tokenizer.chat_template = "{{ messages }}"  # of the language model: knows no video
    tokenizer.save_pretrained(folder)
    size = {"size": {"height": edge + 8, "width": edge + 8}, "do_center_crop": False}
    mean = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, **size}
    (folder / "preprocessor_config.json").write_text(json.dumps(mean))
    return model


def published_name(key: str) -> str:
    """The name of a weight in the files of LLaVA's authors."""
    key = re.sub(r"^model\.language_model\.", "model.", key)
    key = re.sub(r"^model\.vision_tower\.", "model.vision_tower.vision_tower.vision_model.", key)
    for number, layer in ((0, "linear_1"), (2, "linear_2")):
        key = key.replace(f"multi_modal_projector.{layer}", f"mm_projector.{number}")
    return key
