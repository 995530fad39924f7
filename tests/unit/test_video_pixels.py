"""Pixels of video models are those of the processors of transformers."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch

from namm_mm.adapters.video.frames import SIGLIP, read_preprocessor

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize(
    ("module", "name", "config"),
    [
        ("clip.image_processing_pil_clip", "CLIPImageProcessorPil", {"edge": 32}),
        ("video_llava.image_processing_video_llava", "VideoLlavaImageProcessor", {"edge": 32}),
        ("siglip.image_processing_pil_siglip", "SiglipImageProcessorPil", {}),
    ],
)
@pytest.mark.parametrize("shape", [(61, 90), (97, 50), (40, 40)])
def test_pixels_are_those_of_the_processor_of_transformers(
    module: str, name: str, config: dict[str, int], shape: tuple[int, int]
) -> None:
    try:
        theirs = getattr(importlib.import_module(f"transformers.models.{module}"), name)
    except (ImportError, AttributeError):
        pytest.skip("this version of transformers has no such processor without torchvision")
    if edge := config.get("edge"):
        settings: dict[str, Any] = {"size": {"shortest_edge": edge}}
        settings["crop_size"] = {"height": edge, "width": edge}
        ours = read_preprocessor(settings, "llava_next_video")
    else:
        settings = {**SIGLIP, "size": {"height": 48, "width": 48}}
        ours = read_preprocessor(settings, "llava_onevision")
    frames = np.random.default_rng(0).integers(0, 255, (2, *shape, 3), dtype=np.uint8)
    key = {} if name != "VideoLlavaImageProcessor" else {"return_legacy_image_output": False}
    output = theirs(**settings).preprocess(list(frames), return_tensors="pt", **key)
    wanted = output["pixel_values"]
    found = ours(frames)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-6)
