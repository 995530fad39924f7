"""Checkpoints of LLaVA-Video and LLaVA-OneVision in their authors' own format.

A checkpoint of the LLaVA-NeXT code (``LlavaQwenForCausalLM``) has the parts of transformers'
LLaVA-OneVision under other names, and two rules of its own for a clip: how the patches of a frame
are pooled (``mm_spatial_pool_mode``) and where the learned newline goes (``mm_newline_position``).
Importing this module loads torch and transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionModel,
    Qwen2Config,
    SiglipVisionConfig,
)

from namm_mm.adapters.video.kinds import NEWLINES, POOLINGS
from namm_mm.errors import UsageError, message

TOWERS: Mapping[str, Mapping[str, int]] = {
    "google/siglip-so400m-patch14-384": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    },
}
"""Vision towers by the name that a configuration gives them."""

RENAMED = {
    r"^model\.vision_tower\.vision_tower\.vision_model": "model.vision_tower",
    r"^model\.vision_tower\.vision_tower": "model.vision_tower",
    r"^model\.mm_projector\.0": "model.multi_modal_projector.linear_1",
    r"^model\.mm_projector\.2": "model.multi_modal_projector.linear_2",
    r"^model\.(embed_tokens|layers|norm)\.": r"model.language_model.\1.",
}
"""Names of weights: patterns of the published files, and the names in transformers."""


class LlavaQwenModel(LlavaOnevisionModel):  # type: ignore[no-untyped-call]
    """LLaVA-OneVision with the pooling and the newlines of the published code."""

    def get_video_features(self, pixel_values_videos: Tensor, **kwargs: Any) -> Any:
        """Return the features of clips: pooled patches in rows, with newlines between them.

        Parameters
        ----------
        pixel_values_videos
            (clip, frame, 3, height, width).

        Returns
        -------
        BaseModelOutputWithPooling
            ``pooler_output`` is (clip, token, hidden).
        """
        clips, frames = pixel_values_videos.shape[:2]
        output = self.vision_tower(
            pixel_values_videos.flatten(0, 1), output_hidden_states=True, return_dict=True
        )
        features = self.multi_modal_projector(output.hidden_states[-1])
        pooled = pool(
            features, self.config.mm_spatial_pool_mode, self.config.mm_spatial_pool_stride
        )
        grids = pooled.reshape(clips, frames, *pooled.shape[1:])
        newline = self.image_newline.to(pooled.device, pooled.dtype)
        output.pooler_output = with_newlines(grids, newline, self.config.mm_newline_position)
        return output


class LlavaQwenForConditionalGeneration(LlavaOnevisionForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The whole model, with the output layer."""

    def __init__(self, config: LlavaOnevisionConfig) -> None:
        super().__init__(config)
        self.model = LlavaQwenModel(config)
        self.post_init()  # type: ignore[no-untyped-call]


def pool(features: Tensor, mode: str, stride: int) -> Tensor:
    """Return (frame, patch, hidden) features pooled to (frame, row, column, hidden)."""
    side = math.isqrt(features.shape[1])
    grid = features.reshape(len(features), side, side, -1).permute(0, 3, 1, 2)
    if mode == "average":
        grid = torch.nn.functional.avg_pool2d(grid, stride)
    elif mode == "max":
        grid = torch.nn.functional.max_pool2d(grid, stride)
    else:
        size = [math.ceil(side / stride)] * 2
        grid = torch.nn.functional.interpolate(grid, size=size, mode="bilinear")
    return grid.permute(0, 2, 3, 1)


def with_newlines(grids: Tensor, newline: Tensor, position: str) -> Tensor:
    """Return (clip, frame, row, column, hidden) features as (clip, token, hidden)."""
    if position == "grid":  # one after every row of every frame
        grids = torch.cat([grids, newline.expand(*grids.shape[:3], 1, -1)], dim=3)
    line = grids.flatten(2, 3)
    if position == "frame":
        line = torch.cat([line, newline.expand(*line.shape[:2], 1, -1)], dim=2)
    line = line.flatten(1, 2)
    if position == "one_token":
        line = torch.cat([line, newline.expand(line.shape[0], 1, -1)], dim=1)
    return line


def read_config(plain: Mapping[str, Any], name: str) -> LlavaOnevisionConfig:
    """Return the published configuration as one of transformers.

    Raises
    ------
    UsageError
        The vision tower, the pooling or the place of the newline is not known.
    """
    pooling = plain.get("mm_spatial_pool_mode", "bilinear")
    newline = plain.get("mm_newline_position", "one_token")
    for what, given, valid in (
        ("mm_spatial_pool_mode", pooling, POOLINGS),
        ("mm_newline_position", newline, NEWLINES),
    ):
        if given not in valid:
            raise UsageError(
                message(
                    f"the configuration of {name!r} has an unknown {what}",
                    given=given,
                    expected="a known one",
                    valid=valid,
                )
            )
    own = {k: v for k, v in plain.items() if not k.startswith(("mm_", "vision_", "image_"))}
    for key in ("model_type", "architectures", "auto_map", "torch_dtype"):
        own.pop(key, None)
    config = LlavaOnevisionConfig(
        vision_config=_tower(str(plain.get("mm_vision_tower", "")), name),
        text_config=Qwen2Config(**own),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=bool(plain.get("tie_word_embeddings", False)),
    )
    config.mm_spatial_pool_mode = pooling
    config.mm_spatial_pool_stride = int(plain.get("mm_spatial_pool_stride", 2))
    config.mm_newline_position = newline
    return config


def _tower(tower: str, name: str) -> SiglipVisionConfig:
    """Return the tower's configuration without its last layer and head, which LLaVA leaves out."""
    if tower in TOWERS:
        sizes = dict(TOWERS[tower])
    elif (Path(tower) / "config.json").is_file():
        found = SiglipVisionConfig.from_pretrained(tower)
        sizes = {key: getattr(found, key) for key in next(iter(TOWERS.values()))}
    else:
        raise UsageError(
            message(
                f"the vision tower of {name!r} is not known",
                given=tower,
                expected="a known one, or a local folder with its config.json",
                valid=TOWERS,
            )
        )
    sizes["num_hidden_layers"] -= 1
    config: Any = SiglipVisionConfig
    return config(vision_use_head=False, **sizes)  # type: ignore[no-any-return]
