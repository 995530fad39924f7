"""The video model classes that are supported, and how each lays out a clip in tokens.

The rules are those of the processors in transformers (``replace_video_token``), which cannot be
built without torchvision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from namm_mm.errors import UsageError, message
from namm_mm.records import TokenType


@dataclass(frozen=True)
class Layout:
    """How the placeholder tokens of a clip are divided among its frames."""

    tokens_per_frame: int
    trailing: int = 0

    def total(self, frames: int) -> int:
        """Return the number of placeholder tokens of a clip."""
        return self.tokens_per_frame * frames + self.trailing

    def expand(
        self, tokens: Sequence[int], placeholder: int, frames: int, *, one_each: bool
    ) -> tuple[list[int], list[TokenType]]:
        """Replace the placeholders of a prompt by the tokens of `frames` frames.

        Parameters
        ----------
        tokens
            The tokens of the prompt.
        placeholder
            The token that stands for a clip, or for one frame of it with `one_each`.

        Returns
        -------
        ids, types : list
            The tokens, and the type of each.
        """
        ids: list[int] = []
        types: list[TokenType] = []
        places = iter(range(frames))
        for token in tokens:
            if token != placeholder:
                ids.append(token)
                types.append(TokenType("text"))
                continue
            for frame in [next(places)] if one_each else places:
                ids += [token] * self.tokens_per_frame
                types += [TokenType("frame", frame)] * self.tokens_per_frame
            if types[-1] == TokenType("frame", frames - 1):
                ids += [token] * self.trailing
                types += [TokenType("text")] * self.trailing
        return ids, types


@dataclass(frozen=True)
class VideoKind:
    """A model class.

    Attributes
    ----------
    model_class
        Its name in transformers.
    template
        The user's turn with ``<video>`` and ``{text}``, for a checkpoint without a chat template.
    layout
        Returns the layout from height and width in pixels after preprocessing, the processor's
        configuration and the model's.
    module
        Where the class is, imported when a model of it loads: transformers, or a module of ours for
        a published format that transformers does not read.
    """

    model_class: str
    template: str
    layout: Callable[[int, int, Mapping[str, Any], Any], Layout]
    module: str = "transformers"

    @property
    def own_class(self) -> bool:
        """Whether the class is one of ours."""
        return self.module != "transformers"

    @property
    def template_of_text(self) -> str:
        """The template without the place for the video, for a text with places for the frames."""
        return self.template.replace("<video>\n", "")


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
    # Every patch and the class token: the video tower drops nothing.
    extra = int(processor.get("num_additional_image_tokens", 1))
    return Layout(_patches(height, width, processor, config) + extra)


def _llava_qwen(height: int, width: int, processor: Mapping[str, Any], config: Any) -> Layout:
    vision = config.vision_config
    side = vision.image_size // vision.patch_size
    stride = config.mm_spatial_pool_stride
    pooled = (
        math.ceil(side / stride) if config.mm_spatial_pool_mode == "bilinear" else side // stride
    )
    newline = config.mm_newline_position
    extra = {"grid": pooled, "frame": 1}.get(newline, 0)
    return Layout(pooled * pooled + extra, trailing=int(newline == "one_token"))


POOLINGS = ("average", "bilinear", "max")
NEWLINES = ("grid", "frame", "one_token", "no_token")
"""Known values of ``mm_spatial_pool_mode`` and ``mm_newline_position`` in LLaVA's own format."""

LLAVA_QWEN = "llava_qwen"

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
    LLAVA_QWEN: VideoKind(
        "LlavaQwenForConditionalGeneration",
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<video>\n{text}<|im_end|>\n<|im_start|>assistant\n",
        _llava_qwen,
        module="namm_mm.adapters.video.llava_qwen",
    ),
}


def model_type_of(plain: Mapping[str, Any]) -> str:
    """Return the key of :data:`KINDS` for a ``config.json``.

    It is the model type, except for LLaVA's own format: its authors write ``llava`` or
    ``llava_qwen``, and only the name of the class distinguishes it from transformers' LLaVA.
    """
    if "LlavaQwenForCausalLM" in (plain.get("architectures") or ()):
        return LLAVA_QWEN
    return str(plain.get("model_type", ""))


def kind_of(model_type: str, name: str) -> VideoKind:
    """Return the kind for a ``model_type``; raise `UsageError` if it is not supported."""
    if model_type not in KINDS:
        raise UsageError(
            message(
                f"the model {name!r} is of a class that the video adapter does not support",
                given=model_type,
                expected="a known model_type in its config.json",
                valid=KINDS,
                then="docs/how-to/add-an-adapter.md shows how to support another class.",
            )
        )
    return KINDS[model_type]
