"""A memory on a video model, attached to it or to the decoder inside; nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
)

from namm_mm import attach, policy
from namm_mm.policies import Budget
from namm_mm.testing.tiny import VOCABULARY, WIDE, tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric

FRAMES, PER_FRAME, VIDEO = 16, 4, VOCABULARY + 1


def video_model() -> Any:
    torch.manual_seed(0)
    decoder = tiny_llama().config.to_dict() | {"vocab_size": VOCABULARY + 2}
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=32,
        initializer_range=WIDE,
    )
    config = LlavaNextVideoConfig(
        vision_config=vision,
        text_config=LlamaConfig(**decoder),
        image_token_index=VOCABULARY,
        video_token_index=VIDEO,
        vision_feature_layer=-1,
    )
    model: Any = LlavaNextVideoForConditionalGeneration(config)
    return model.eval()


def test_a_video_model_generates_through_a_memory() -> None:
    model, text = video_model(), tiny_tokens(1, 15)
    video = torch.full((1, FRAMES * PER_FRAME), VIDEO)
    ids = torch.cat([text[:, :6], video, text[:, 6:]], dim=1)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values_videos": torch.randn(1, FRAMES, 3, 32, 32),
        "max_new_tokens": 20,
        "do_sample": False,
    }
    towers = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = {key: config._attn_implementation for key, config in towers.items()}
    expected = model.generate(**inputs).tolist()
    with attach(model, policy("full"), interval=16):
        assert model.model.vision_tower.config._attn_implementation != "namm_memory"
        assert model.generate(**inputs).tolist() == expected
    chosen = policy("h2o", budget=Budget(tokens=24))
    with attach(model, chosen, interval=16) as whole:
        answer = model.generate(**inputs).tolist()
    with attach(model.model.language_model, chosen, interval=16) as inner:
        assert model.generate(**inputs).tolist() == answer != expected
    assert whole.usage() == inner.usage()
    assert whole.usage().updates == (FRAMES * PER_FRAME + 15 + 19) // 16
    assert {key: config._attn_implementation for key, config in towers.items()} == before
