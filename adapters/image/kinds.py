"""The image-text-to-text classes that are served: one line for each family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from namm_mm.adapters.image import roles
from namm_mm.errors import UsageError, message
from namm_mm.records import TokenType

IMAGE = "<image>"
"""Stands for a picture in a template."""


@dataclass(frozen=True)
class ImageKind:
    """A family of models.

    Attributes
    ----------
    model_class, processor_class
        Their names in transformers.
    template
        The user's turn with ``{text}``, for a checkpoint without a chat template.
    roles
        Returns what each placeholder of a prepared prompt stands for.
    picture
        What a picture is in that turn; ``<image>`` is the placeholder.
    """

    model_class: str
    processor_class: str
    template: str
    roles: Callable[[roles.Prepared], list[TokenType]]
    picture: str = f"{IMAGE}\n"


_VICUNA = "USER: {text} ASSISTANT:"
_CHATML = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
_VISION = f"<|vision_start|>{IMAGE}<|vision_end|>"
_IDEFICS = "<|im_start|>User:{text}<end_of_utterance>\nAssistant:"

KINDS: Mapping[str, ImageKind] = {
    "llava": ImageKind("LlavaForConditionalGeneration", "LlavaProcessor", _VICUNA, roles.of_llava),
    "llava_next": ImageKind(
        "LlavaNextForConditionalGeneration", "LlavaNextProcessor", _VICUNA, roles.of_llava_next
    ),
    "llava_onevision": ImageKind(
        "LlavaOnevisionForConditionalGeneration",
        "LlavaOnevisionProcessor",
        _CHATML,
        roles.of_onevision,
    ),
    "qwen2_vl": ImageKind(
        "Qwen2VLForConditionalGeneration", "Qwen2VLProcessor", _CHATML, roles.of_qwen, _VISION
    ),
    "qwen2_5_vl": ImageKind(
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5_VLProcessor",
        _CHATML,
        roles.of_qwen,
        _VISION,
    ),
    "qwen3_vl": ImageKind(
        "Qwen3VLForConditionalGeneration", "Qwen3VLProcessor", _CHATML, roles.of_qwen, _VISION
    ),
    "internvl": ImageKind(
        "InternVLForConditionalGeneration", "InternVLProcessor", _CHATML, roles.of_internvl
    ),
    "idefics3": ImageKind(
        "Idefics3ForConditionalGeneration",
        "Idefics3Processor",
        _IDEFICS,
        roles.of_smolvlm,
        IMAGE,
    ),
    "smolvlm": ImageKind(
        "SmolVLMForConditionalGeneration", "SmolVLMProcessor", _IDEFICS, roles.of_smolvlm, IMAGE
    ),
}


def kind_of(model_type: str, name: str) -> ImageKind:
    """Return the family of a ``model_type``; raise `UsageError` if it is not served."""
    if model_type not in KINDS:
        raise UsageError(
            message(
                f"the model {name!r} is of a class that the image adapter does not support",
                given=model_type,
                expected="a known model_type in its config.json",
                valid=KINDS,
                then="adapter=album reads pictures with a LLaVA video model. "
                "docs/how-to/add-an-adapter.md shows how to support another class.",
            )
        )
    return KINDS[model_type]
