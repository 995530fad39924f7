"""The video classes of transformers that are served, and how each lays out a clip in tokens.

The rules are those of the processors in transformers (``replace_video_token``), which cannot be
built without torchvision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from namm_mm.errors import UsageError, message


@dataclass(frozen=True)
class Layout:
    """Where the frames of a clip are in its placeholder tokens."""

    tokens_per_frame: int
    trailing: int = 0

    def total(self, frames: int) -> int:
        """Number of placeholder tokens of a clip."""
        return self.tokens_per_frame * frames + self.trailing


@dataclass(frozen=True)
class VideoKind:
    """One model class.

    Attributes
    ----------
    model_class
        Its name in transformers.
    template
        The user's turn with ``<video>`` and ``{text}``, for a checkpoint without a chat template.
    layout
        From processed height and width in pixels, processor configuration and model configuration.
    """

    model_class: str
    template: str
    layout: Callable[[int, int, Mapping[str, Any], Any], Layout]


def _patches(height: int, width: int, processor: Mapping[str, Any], config: Any) -> int:
    patch = int(processor.get("patch_size") or config.vision_config.patch_size)
    return (height // patch) * (width // patch)


def _next_video(height: int, width: int, processor: Mapping[str, Any], config: Any) -> Layout:
    # The processor divides by 4 whatever the stride: the class pools 2 by 2.
    return Layout(_patches(height, width, processor, config) // 4)


def _onevision(height: int, width: int, processor: Mapping[str, Any], config: Any) -> Layout:
    vision = config.vision_config
    image_tokens = int(
        processor.get("num_image_tokens") or (vision.image_size // vision.patch_size) ** 2
    )
    return Layout(
        math.ceil(math.isqrt(image_tokens) / 2) ** 2, trailing=1
    )  # one newline at the end


def _video_llava(height: int, width: int, processor: Mapping[str, Any], config: Any) -> Layout:
    # Every patch, and the class token too: the video tower drops nothing.
    extra = int(processor.get("num_additional_image_tokens", 1))
    return Layout(_patches(height, width, processor, config) + extra)


KINDS: Mapping[str, VideoKind] = {
    "llava_next_video": VideoKind(
        "LlavaNextVideoForConditionalGeneration", "USER: <video>\n{text} ASSISTANT:", _next_video
    ),
    "llava_onevision": VideoKind(
        "LlavaOnevisionForConditionalGeneration",
        "<|im_start|>user <video>\n{text}<|im_end|><|im_start|>assistant\n",
        _onevision,
    ),
    "video_llava": VideoKind(
        "VideoLlavaForConditionalGeneration", "USER: <video>\n{text} ASSISTANT:", _video_llava
    ),
}


def kind_of(model_type: str, name: str) -> VideoKind:
    """Return the kind for a ``model_type``; raise `UsageError` if it is not served."""
    if model_type not in KINDS:
        raise UsageError(
            message(
                f"the model {name!r} is of a class that the video adapter does not serve",
                given=model_type,
                expected="a known model_type in its config.json",
                valid=KINDS,
                then="docs: 'Add an adapter in 50 lines' shows how to serve another class.",
            )
        )
    return KINDS[model_type]
