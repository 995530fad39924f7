"""Video by the models that read it through a published processor: Qwen-VL, InternVL, SmolVLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from namm_mm.adapters.common.choices import question_text
from namm_mm.adapters.common.context import check_length, read_extension
from namm_mm.adapters.common.files import read_json
from namm_mm.adapters.common.multimodal import check_options
from namm_mm.adapters.image.kinds import IMAGE
from namm_mm.adapters.image.loading import LoadedImageModel, load_image_model
from namm_mm.adapters.video.clips import ClipAdapter
from namm_mm.adapters.video.frames import processor_files
from namm_mm.adapters.video.readers import READERS, QwenReader, grid_of
from namm_mm.errors import UsageError, message
from namm_mm.models.resolve import resolve
from namm_mm.records import Inputs, Sample, TokenType

if TYPE_CHECKING:
    from namm_mm.video import Clip


@dataclass
class VideoAdapter(ClipAdapter[LoadedImageModel]):
    """Runs Qwen2-VL, Qwen2.5-VL, Qwen3-VL, InternVL or SmolVLM2 on questions about files.

    Further options are those of :class:`namm_mm.adapters.video.clips.ClipAdapter`. The processor of
    the model words the prompt, its times and its frames. Frames are sampled as `frames` and
    `sampling` say.
    """

    def load(self) -> None:
        """Load model, tokenizer and processor; see :class:`namm_mm.adapters.base.Adapter`."""
        if self._loaded is None:
            source = resolve(self.model)
            model_type = str(read_json(source, "config.json", self.model).get("model_type", ""))
            if model_type not in READERS:
                raise UsageError(
                    message(
                        f"the model {self.model!r} is of a class that the video adapter does not "
                        "support",
                        given=model_type,
                        expected="a known model_type in its config.json",
                        valid=READERS,
                        then="adapter=llava_video serves the LLaVA video models.",
                    )
                )
            loaded = load_image_model(
                source, self.model, self._placement, read_extension(self.rope)
            )
            self._loaded = _for_videos(loaded, source, model_type)

    def prepare(self, sample: Sample) -> Inputs:
        """Read the frames and return the tokens of the prompt, with the clip in its place.

        The tokens of a frame are of the kind ``frame`` with its index, and with the row and column
        of their patch. A patch of Qwen-VL spans two frames and has the index of the first.
        """
        loaded = self.loaded
        check_options(sample)
        clip = self.clip(sample)
        prompt = self.prompt(sample)
        made = loaded.processor(
            videos=[clip.frames],
            text=[prompt],
            return_tensors="pt",
            do_sample_frames=False,
            videos_kwargs={"video_metadata": [_metadata(clip)]},
            text_kwargs={"add_special_tokens": not loaded.has_start(prompt)},
        )
        tensors = {
            name: tensor
            for name, tensor in made.items()
            if isinstance(tensor, torch.Tensor) and name != "token_type_ids"
        }
        ids = tensors["input_ids"][0].tolist()
        needed = len(ids) + self.new_tokens
        check_length(needed, loaded.context_length, name=self.model, sample=sample.id)
        device, dtype = loaded.model.device, loaded.model.dtype
        placed = {
            name: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in tensors.items()
        }
        details = {
            "frames_seen": len(clip.frames),
            "tokens_per_frame": ids.count(loaded.placeholder_token) / len(clip.frames),
            "video_seconds": round(clip.seconds, 3),
        }
        types = self._types(tensors, ids, len(clip.frames))
        return Inputs(placed, types, sample, details)

    def prompt(self, sample: Sample) -> str:
        """Return the whole prompt, with a placeholder for the video, which comes first.

        Raises
        ------
        UsageError
            The sample contains the placeholder.
        """
        loaded = self.loaded
        options = sample.options if self.lists_options else ()
        text = sample.prompt or question_text(sample.question, options, context=sample.context)
        if loaded.placeholder in text:
            raise UsageError(
                message(
                    f"sample {sample.id!r} contains the video placeholder",
                    given=loaded.placeholder,
                    expected="a question without it: the adapter puts the video first",
                )
            )
        content = [{"type": "video"}, {"type": "text", "text": text}]
        shown = loaded.kind.picture.replace(IMAGE, loaded.placeholder)
        return loaded.turn(content, 1, loaded.kind.template.replace("{text}", shown + text))

    def _types(
        self, tensors: Mapping[str, torch.Tensor], ids: list[int], frames: int
    ) -> tuple[TokenType, ...]:
        loaded, reader = self.loaded, self.loaded.processor.video_processor
        merge = reader.merge_size if isinstance(reader, QwenReader) else 1
        depth = reader.temporal_patch_size if isinstance(reader, QwenReader) else 1
        count = ids.count(loaded.placeholder_token)
        _, rows, columns = grid_of(tensors, frames, count, merge)
        found, place = [], 0
        for token in ids:
            if token != loaded.placeholder_token:
                found.append(TokenType("text"))
                continue
            step, patch = divmod(place, rows * columns)
            found.append(TokenType("frame", step * depth, *divmod(patch, columns)))
            place += 1
        return tuple(found)


def _metadata(clip: Clip) -> Any:
    """Return what the processors are told of a clip."""
    from transformers.video_utils import VideoMetadata

    rate = clip.rate or 24.0  # as the processors take it where a file does not say
    return VideoMetadata(
        total_num_frames=clip.total,
        fps=rate,
        duration=clip.total / rate,
        frames_indices=clip.indices.tolist(),
        height=clip.frames.shape[1],
        width=clip.frames.shape[2],
    )


def _for_videos(loaded: LoadedImageModel, source: Path | str, model_type: str) -> LoadedImageModel:
    """Return the model with a reader of frames in the place of the video processor."""
    settings, _ = processor_files(source, loaded.name)
    reader = READERS[model_type](loaded.processor.image_processor, settings)
    if isinstance(reader, QwenReader):
        reader.merge_size = int(settings.get("merge_size", 2))
        reader.temporal_patch_size = int(settings.get("temporal_patch_size", 2))
    loaded.processor.video_processor = reader
    video = loaded.processor.video_token
    token = loaded.placeholder_token
    if isinstance(reader, QwenReader):  # the others replace it by placeholders of pictures
        token = int(loaded.model.config.video_token_id)
    return replace(loaded, placeholder=video, placeholder_token=token)
