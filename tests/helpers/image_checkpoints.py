"""Tiny random checkpoints of the served image-text-to-text classes, saved as they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from video_checkpoints import make_tokenizer

EDGE, PATCH = 32, 8
"""Edge of a picture, and of a patch, in pixels."""

PINPOINTS = [[32, 64], [64, 32], [64, 64]]

MARKS = {
    "image_token": "<image>",
    "video_token": "<video>",
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
}
PADS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
IDEFICS = ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))

TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE {% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endfor %} ASSISTANT:"
)
SHOWN = {
    "qwen2_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "qwen3_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "internvl": "<IMG_CONTEXT>",
}
"""What a picture is in a chat template; ``<image>`` for the others."""

NO_TEMPLATE = ("llava", "idefics3")
"""Saved without a chat template, so that the template of the family is used."""

Config = dict[str, Any]
WIDE: Config = {"initializer_range": 0.3}
"""Wide weights, so that tokens matter."""


def tokenizer_of(kind: str) -> Any:
    """The tokenizer of a family, with its marks."""
    made = make_tokenizer()
    made.chat_template = None
    made.add_special_tokens(
        {"additional_special_tokens": [*MARKS.values(), *PADS, *IDEFICS, *TILES]}
    )
    if kind == "internvl":
        made.init_kwargs["extra_special_tokens"] = MARKS
        made._set_model_specific_special_tokens(MARKS)
    return made


def save_checkpoint(folder: Path, kind: str, *, seed: int = 0) -> Any:
    """Save a tiny model of the family `kind` and return it."""
    torch.manual_seed(seed)
    tokenizer = tokenizer_of(kind)
    model = _model(kind, tokenizer)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_pixels(kind)))
    (folder / "processor_config.json").write_text(json.dumps(_processor(kind)))
    if kind not in NO_TEMPLATE:
        template = TEMPLATE.replace("IMAGE", SHOWN.get(kind, "<image>"))
        (folder / "chat_template.jinja").write_text(template)
    return model


def _language(tokenizer: Any) -> Config:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **WIDE,
    }


def _tower() -> Config:
    return {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": EDGE,
        "patch_size": PATCH,
        **WIDE,
    }


def _model(kind: str, tokenizer: Any) -> Any:
    if kind.startswith("qwen"):
        return _qwen(kind, tokenizer)
    t: Any = transformers
    language, tower = _language(tokenizer), _tower()
    token = tokenizer.convert_tokens_to_ids("<image>")
    if kind in ("llava", "llava_next"):
        name = {"llava": "Llava", "llava_next": "LlavaNext"}[kind]
        more = {} if kind == "llava" else {"image_grid_pinpoints": PINPOINTS}
        config = getattr(t, f"{name}Config")(
            vision_config=t.CLIPVisionConfig(**tower),
            text_config=t.LlamaConfig(**language),
            image_token_index=token,
            **more,
            **WIDE,
        )
        return getattr(t, f"{name}ForConditionalGeneration")(config)
    if kind == "llava_onevision":
        config = t.LlavaOnevisionConfig(
            vision_config=t.SiglipVisionConfig(vision_use_head=False, **tower),
            text_config=t.Qwen2Config(**language),
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
            image_grid_pinpoints=PINPOINTS,
            image_token_index=token,
            video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
            **WIDE,
        )
        return t.LlavaOnevisionForConditionalGeneration(config)
    if kind == "internvl":
        square = {"image_size": [EDGE, EDGE], "patch_size": [PATCH, PATCH]}
        config = t.InternVLConfig(
            vision_config=t.InternVLVisionConfig(**{**tower, **square}),
            text_config=t.Qwen2Config(**language),
            image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
            image_seq_length=4,
        )
        return t.InternVLForConditionalGeneration(config)
    name = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}[kind]
    config = getattr(t, f"{name}Config")(
        vision_config=tower,
        text_config=t.LlamaConfig(**language),
        image_token_id=token,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    return getattr(t, f"{name}ForConditionalGeneration")(config)


def _qwen(kind: str, tokenizer: Any) -> Any:
    t: Any = transformers
    names = ("vision_start", "vision_end", "image", "video")
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids(list(PADS)), strict=True))
    tokens = {f"{name}_token_id": number for name, number in ids.items()}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    vision: Config = {"depth": 2, "num_heads": 2, "patch_size": PATCH, "in_channels": 3, **WIDE}
    language = {**_language(tokenizer), "rope_parameters": rope}
    if kind == "qwen2_vl":
        vision |= {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
        config, name = t.Qwen2VLConfig, "Qwen2VL"
    elif kind == "qwen2_5_vl":
        vision |= {"hidden_size": 16, "out_hidden_size": 32, "intermediate_size": 24}
        vision |= {"window_size": 32, "fullatt_block_indexes": [1]}
        config, name = t.Qwen2_5_VLConfig, "Qwen2_5_VL"
    else:
        vision |= {"hidden_size": 16, "out_hidden_size": 32, "intermediate_size": 24}
        vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
        language["head_dim"] = 8
        config, name = t.Qwen3VLConfig, "Qwen3VL"
    made = config(vision_config=vision, text_config=language, **tokens)
    return getattr(t, f"{name}ForConditionalGeneration")(made)


def _pixels(kind: str) -> Config:
    square = {"height": EDGE, "width": EDGE}
    normalised = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
    if kind == "llava":
        edge = {"size": {"shortest_edge": EDGE}, "crop_size": square}
        return {"image_processor_type": "CLIPImageProcessor", **edge, **normalised}
    if kind == "llava_next":
        edge = {"size": {"shortest_edge": EDGE}, "crop_size": square}
        tiles = {"image_grid_pinpoints": PINPOINTS}
        return {"image_processor_type": "LlavaNextImageProcessor", **edge, **tiles, **normalised}
    if kind == "llava_onevision":
        points: Config = {"image_grid_pinpoints": PINPOINTS, "size": square}
        return {"image_processor_type": "LlavaOnevisionImageProcessor", **points, **normalised}
    if kind.startswith("qwen"):
        pixels = {"min_pixels": 16 * 16, "max_pixels": 64 * 64, "patch_size": PATCH}
        if kind == "qwen3_vl":
            pixels["max_pixels"] *= 4  # of all frames of a video together
        merge = {"merge_size": 2, "temporal_patch_size": 2}
        return {
            "image_processor_type": "Qwen2VLImageProcessorFast",
            **pixels,
            **merge,
            **normalised,
        }
    if kind == "internvl":
        cut: Config = {"size": square, "min_patches": 1, "max_patches": 6, "crop_to_patches": True}
        return {"image_processor_type": "GotOcr2ImageProcessorFast", **cut, **normalised}
    name = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}[kind]
    edges = {"size": {"longest_edge": 2 * EDGE}, "max_image_size": {"longest_edge": EDGE}}
    return {"image_processor_type": f"{name}ImageProcessor", **edges, **normalised}


def _processor(kind: str) -> Config:
    if kind in ("llava", "llava_next"):
        name = {"llava": "LlavaProcessor", "llava_next": "LlavaNextProcessor"}[kind]
        return {
            "processor_class": name,
            "patch_size": PATCH,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        }
    if kind == "llava_onevision":
        return {
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": (EDGE // PATCH) ** 2,
            "vision_feature_select_strategy": "full",
        }
    if kind == "internvl":
        return {"processor_class": "InternVLProcessor", "image_seq_length": 4}
    if kind in ("idefics3", "smolvlm"):
        return {"image_seq_len": 4}
    return {}
