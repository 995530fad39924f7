"""Images: multiple choice and free answers by image-text-to-text models of transformers.

The pictures are fed first and the rest of the prompt after them, in two calls on one cache. Under
``prune_after_prefill`` the prompt up to the end of the last picture is pruned before the question
is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from namm_mm.adapters.common.choices import question_text
from namm_mm.adapters.common.context import check_length, read_extension
from namm_mm.adapters.common.multimodal import MultimodalAdapter, check_options
from namm_mm.adapters.image.kinds import IMAGE
from namm_mm.adapters.image.loading import LoadedImageModel, load_image_model
from namm_mm.adapters.image.roles import OTHER, Prepared
from namm_mm.errors import RunError, UsageError, message
from namm_mm.image import read_picture
from namm_mm.models.resolve import resolve
from namm_mm.records import FRAME_MARK, Inputs, Sample, TokenType
from namm_mm.records.shape import IMAGE as IMAGES
from namm_mm.records.shape import TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

NOT_FED = ("token_type_ids",)
"""What a tokenizer returns and the models do not take."""


@dataclass
class ImageAdapter(MultimodalAdapter[LoadedImageModel]):
    """Runs LLaVA, LLaVA-NeXT, LLaVA-OneVision, Qwen-VL, InternVL, Idefics3 and SmolVLM on pictures.

    Options are those of :class:`namm_mm.adapters.common.multimodal.MultimodalAdapter`.

    Raises
    ------
    UsageError
        An option is wrong.
    """

    reads: ClassVar[frozenset[str]] = frozenset({TEXT, IMAGES})
    requires: ClassVar[frozenset[str]] = frozenset({IMAGES})

    def load(self) -> None:
        """Load model, tokenizer and processor; see :class:`namm_mm.adapters.base.Adapter`."""
        if self._loaded is None:
            self._loaded = load_image_model(
                resolve(self.model), self.model, self._placement, read_extension(self.rope)
            )

    def prepare(self, sample: Sample) -> Inputs:
        """Read the pictures and return the tokens of the prompt, with the pictures in their places.

        Tokens of a whole picture are of the kind ``image``, those of an enlarged part of it of the
        kind ``tile``, with the number of the picture and the row and column of the patch. All
        others, and learned newlines, are of the kind ``text``.

        Raises
        ------
        UsageError
            The sample has no picture, or its prompt has another number of places for pictures.
        RunError
            A picture cannot be read, or the model's processor does not take it.
        """
        loaded = self.loaded
        if not sample.images:
            raise UsageError(
                message(f"sample {sample.id!r} has no picture", given=None, expected="image files")
            )
        check_options(sample)
        prompt = self.prompt(sample)
        pictures = [read_picture(path) for path in sample.images]
        tensors = self._processed(sample, prompt, pictures)
        tokens = tensors["input_ids"].shape[1]
        needed = tokens + self.new_tokens
        check_length(needed, loaded.context_length, name=self.model, sample=sample.id)
        sizes = [(picture.height, picture.width) for picture in pictures]
        types = self._types(tensors, sizes)
        device, dtype = loaded.model.device, loaded.model.dtype
        placed = {
            name: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in tensors.items()
        }
        details = {
            "pictures": len(pictures),
            "picture_tokens": sum(one != OTHER for one in types),
            "picture_sizes": [list(size) for size in sizes],
        }
        return Inputs(placed, types, sample, details)

    def prompt(self, sample: Sample) -> str:
        """Return the whole prompt, with a placeholder for each picture.

        Pictures come first, unless the sample's words say ``<image>`` where each is.
        """
        loaded = self.loaded
        options = sample.options if self.lists_options else ()
        text = sample.prompt or question_text(sample.question, options, context=sample.context)
        places = text.count(FRAME_MARK)
        if places not in (0, len(sample.images)):
            raise UsageError(
                message(
                    f"sample {sample.id!r} has another number of places than pictures",
                    given=f"{places} times {FRAME_MARK}, {len(sample.images)} pictures",
                    expected=f"equal numbers, or no {FRAME_MARK}: the pictures then come first",
                )
            )
        if loaded.placeholder != FRAME_MARK and loaded.placeholder in text:
            raise UsageError(
                message(
                    f"sample {sample.id!r} contains the model's image placeholder",
                    given=loaded.placeholder,
                    expected=f"{FRAME_MARK} where a picture is",
                )
            )
        if not places:
            text = FRAME_MARK * len(sample.images) + text
        return loaded.turn(_content(text), len(sample.images), self._plain(text))

    def _plain(self, text: str) -> str:
        """The turn by the template of the family."""
        kind, placeholder = self.loaded.kind, self.loaded.placeholder
        shown = text.replace(FRAME_MARK, kind.picture.replace(IMAGE, placeholder))
        return kind.template.replace("{text}", shown)

    def _processed(
        self, sample: Sample, prompt: str, pictures: Sequence[Image]
    ) -> dict[str, torch.Tensor]:
        try:
            found: Mapping[str, Any] = self.loaded.processor(
                images=[list(pictures)],  # those of one conversation
                text=[prompt],
                return_tensors="pt",
                images_kwargs={"input_data_format": "channels_last"},
                text_kwargs={"add_special_tokens": not self.loaded.has_start(prompt)},
            )
        except (ValueError, ZeroDivisionError) as error:  # a picture of a shape that it refuses
            raise RunError(
                message(
                    f"the processor of {self.model!r} does not take the pictures of sample "
                    f"{sample.id!r} ({' '.join(str(error).split())})",
                    given=", ".join(f"{one.width} x {one.height}" for one in pictures),
                    expected="pictures of a usual size and shape",
                )
            ) from error
        return {
            name: tensor
            for name, tensor in found.items()
            if name not in NOT_FED and isinstance(tensor, torch.Tensor)
        }

    def _types(
        self, tensors: Mapping[str, torch.Tensor], sizes: Sequence[tuple[int, int]]
    ) -> tuple[TokenType, ...]:
        """Return one type for each token of the prompt."""
        loaded = self.loaded
        ids = tensors["input_ids"][0].tolist()
        prepared = Prepared(
            loaded.model, loaded.processor, tensors, sizes, loaded.placeholder_token
        )
        roles = loaded.kind.roles(prepared)
        places = ids.count(loaded.placeholder_token)
        if len(roles) != places:
            raise RunError(
                message(
                    f"the pictures of {self.model!r} are laid out in another way than is known",
                    given=f"{places} placeholders",
                    expected=f"{len(roles)}, as {loaded.kind.model_class} lays them out",
                )
            )
        next_role = iter(roles)
        return tuple(
            next(next_role) if one == loaded.placeholder_token else TokenType("text") for one in ids
        )


def _content(text: str) -> list[dict[str, str]]:
    """Return words and pictures in order, as chat templates take them."""
    return [
        {"type": "image"} if part == FRAME_MARK else {"type": "text", "text": part}
        for part in re.split(f"({re.escape(FRAME_MARK)})", text)
        if part
    ]
