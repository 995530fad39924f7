"""Video: multiple choice and free answers by the LLaVA video models of transformers.

The clip is fed first and the rest of the prompt after it, in two calls on one cache. For a
streaming memory this is the same as one call. Under ``prune_after_prefill`` the clip is the
prompt: the video is pruned before the question is known. With ``options`` the answer is the option
whose letter is the most probable at the last position. With ``words`` options are not listed, and
the answer is the option whose first word is the most probable. With ``generate`` the model decodes
greedily.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from namm_mm.adapters.base import AnsweringAdapter
from namm_mm.adapters.common.context import check_length, read_extension
from namm_mm.adapters.common.pieces import pieces
from namm_mm.adapters.common.placement import Placement
from namm_mm.adapters.video.answering import by_generation, by_options
from namm_mm.adapters.video.kinds import POOLINGS
from namm_mm.adapters.video.loading import LoadedVideoModel, load_video_model
from namm_mm.adapters.video.prompt import LETTERS, Wording
from namm_mm.errors import RunError, UsageError, message
from namm_mm.models.missing import missing
from namm_mm.models.resolve import resolve
from namm_mm.records import FRAME_MARK, Answer, Inputs, Sample
from namm_mm.records.shape import TEXT, VIDEO
from namm_mm.video import BACKENDS, SAMPLINGS, Clip, sample_frames

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from namm_mm.memory import Memory

ANSWERS = ("auto", "options", "words", "generate")


@dataclass
class LlavaVideoAdapter(AnsweringAdapter):
    """Runs LlavaNextVideo, LlavaOnevision, VideoLlava or LLaVA-Video on questions about files.

    Parameters
    ----------
    model
        Local folder, asset name or hub id, as :func:`namm_mm.models.resolve.resolve` takes it.
    frames
        How many frames to sample from a file; a shorter file gives all it has.
    min_frames
        The sample of a file with fewer frames fails.
    sampling
        ``even``, ``ends`` or ``stride``: see :func:`namm_mm.video.spread`.
    dtype
        ``auto`` is bfloat16 where the device computes in it natively, else float32.
    device
        ``auto`` is CUDA where there is one; ``cpu``, ``cuda``, ``cuda:1``.
    device_map, quantization, attention
        Several GPUs, 4-bit weights, attention kernel: see
        :class:`namm_mm.adapters.common.placement.Placement`.
    rope
        A context extension, ``linear:2.5`` or ``ntk:4``: see
        :mod:`namm_mm.adapters.common.context`.
    pooling
        ``average``, ``bilinear`` or ``max`` instead of the pooling of a model in LLaVA's own
        format.
    time_instruction
        Tell the model how long the video is and when its frames were, as LLaVA-Video was tuned.
    answer_by
        ``options`` compares the letters of a sample's options. ``words`` does not list them and
        compares their first words, for models too small to match letters. ``generate`` decodes
        greedily. ``auto`` is what the model's card names, else ``options``.
    max_new_tokens
        Longest answer under ``generate``.
    decoder
        Backend of :func:`namm_mm.video.sample_frames`: ``auto``, ``decord`` or ``pyav``.

    Raises
    ------
    UsageError
        An option is wrong.
    """

    reads: ClassVar[frozenset[str]] = frozenset({TEXT, VIDEO})
    requires: ClassVar[frozenset[str]] = frozenset({VIDEO})

    model: str = "pocket_video"
    frames: int = 32
    min_frames: int = 1
    sampling: str = "even"
    dtype: str = "auto"
    device: str = "auto"
    device_map: str | Mapping[str, Any] | None = None
    quantization: str | None = None
    attention: str | None = None
    rope: str | None = None
    pooling: str | None = None
    time_instruction: bool = False
    answer_by: str = "auto"
    max_new_tokens: int = 16
    decoder: str = "auto"
    _loaded: LoadedVideoModel | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, given, valid in (
            ("answer_by", self.answer_by, ANSWERS),
            ("sampling", self.sampling, SAMPLINGS),
            ("pooling", self.pooling, (None, *POOLINGS)),
            ("decoder", self.decoder, ("auto", *BACKENDS)),
        ):
            if given not in valid:
                known = [name for name in valid if name is not None]
                raise UsageError(
                    message(f"unknown {name}", given=given, expected="a known one", valid=known)
                )
        self._placement = Placement(
            self.dtype, self.device, self.device_map, self.quantization, self.attention
        )
        read_extension(self.rope)
        for name in ("frames", "min_frames", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(
                    message(f"wrong {name}", given=getattr(self, name), expected="1 or more")
                )

    @property
    def model_name(self) -> str:
        """The name of the model in the configuration."""
        return self.model

    @property
    def backbone(self) -> nn.Module:
        """The language model inside the video model."""
        module: nn.Module = self.loaded.model.model.language_model
        return module

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.loaded.tokenizer

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the model is run, for every record."""
        found = {
            "frames_wanted": self.frames,
            "sampling": self.sampling,
            "rope": self.rope or "as published",
            "context_length": self._loaded.context_length if self._loaded else None,
            "answer_by": self.answering,
            "quantization": self.quantization,
            "pooling": self.pooling,
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def answering(self) -> str:
        """``options``, ``words`` or ``generate``; ``auto`` until the model is loaded."""
        if self.answer_by == "auto" and self._loaded is not None:
            return self._loaded.answer_by
        return self.answer_by

    def missing(self) -> Iterator[str]:
        """Yield what the model lacks here; see :func:`namm_mm.models.missing.missing`."""
        yield from missing(self.model, tokenizer=True)

    def load(self) -> None:
        """Load model, tokenizer and preprocessor; see :class:`namm_mm.adapters.base.Adapter`."""
        if self._loaded is None:
            self._loaded = load_video_model(
                resolve(self.model),
                self.model,
                self._placement,
                read_extension(self.rope),
                self.pooling,
            )

    def use(self, loaded: LoadedVideoModel) -> None:
        """Use a model that is loaded already."""
        self._loaded = loaded

    def prepare(self, sample: Sample) -> Inputs:
        """Read the frames and return the tokens of the prompt, with the clip in its place.

        The tokens of the clip are of the kind ``frame`` with the index of their frame. All others,
        and Onevision's closing newline, are of the kind ``text``.
        """
        loaded = self.loaded
        if sample.video is None:
            raise UsageError(
                message(f"sample {sample.id!r} has no video", given=None, expected="a video file")
            )
        if len(sample.options) > len(LETTERS):
            raise UsageError(
                message(
                    f"sample {sample.id!r} has too many options",
                    given=len(sample.options),
                    expected=f"at most {len(LETTERS)}",
                )
            )
        marks = sample.prompt.count(FRAME_MARK)
        clip = self._clip(sample, marks)
        pixels = loaded.preprocess(clip.frames)
        layout = loaded.layout(pixels)
        wording = self._wording
        ids, types = layout.expand(
            wording.encode(wording.prompt(sample, clip)),
            loaded.video_token,
            len(pixels),
            one_each=bool(marks),
        )
        new = self.max_new_tokens if self.answering == "generate" else 1
        check_length(len(ids) + new, loaded.context_length, name=self.model, sample=sample.id)
        tokens = torch.tensor([ids])
        device, dtype = loaded.model.device, loaded.model.dtype
        tensors = {
            "input_ids": tokens.to(device),
            "attention_mask": torch.ones_like(tokens).to(device),
            "pixel_values_videos": pixels[None].to(device, dtype),
        }
        details = {
            "frames_seen": len(pixels),
            "tokens_per_frame": layout.tokens_per_frame,
            "video_seconds": round(clip.seconds, 3),
        }
        return Inputs(tensors, tuple(types), sample, details)

    def answer(self, inputs: Inputs, memory: Memory | None) -> Answer:
        """Choose the option whose letter, or first word, is the most probable; or generate."""
        sample, wording = inputs.sample, self._wording
        with torch.no_grad():
            if self.answering == "generate" or not sample.options:
                return by_generation(self.loaded, inputs, memory, self.max_new_tokens)
            texts = LETTERS[: len(sample.options)] if wording.list_options else sample.options
            compared = wording.first_tokens(wording.prompt(sample), texts)
            return by_options(self.loaded, inputs, memory, compared)

    def pieces(self, inputs: Inputs) -> tuple[str, ...]:
        """Return the text of each token; for those of a frame, that of the placeholder."""
        return pieces(self.tokenizer, inputs)

    @property
    def loaded(self) -> LoadedVideoModel:
        """The model, with its tokenizer and preprocessor; raises `UsageError` before `load`."""
        if self._loaded is None:
            raise UsageError("the video adapter has no model yet: call `load()` first.")
        return self._loaded

    @property
    def _wording(self) -> Wording:
        return Wording(self.loaded, self.model, self.answering != "words", self.time_instruction)

    def _clip(self, sample: Sample, marks: int) -> Clip:
        """Return the sampled frames: as many as the prompt has places for, where it has some."""
        if marks > self.frames:
            raise UsageError(
                message(
                    f"the prompt of sample {sample.id!r} has more places for frames than are "
                    "sampled",
                    given=f"{marks} places, adapter.frames={self.frames}",
                    expected="equal numbers",
                    then=f"Set adapter.frames={marks}, or task.frames={self.frames}.",
                )
            )
        count = marks or self.frames
        path = sample.video or ""
        clip = sample_frames(path, count, backend=self.decoder, sampling=self.sampling)
        least = max(marks, self.min_frames)
        if len(clip.frames) < least:
            raise RunError(
                message(
                    f"the video {str(sample.video)!r} is too short",
                    given=f"{len(clip.frames)} frames",
                    expected=f"at least {least}",
                    then="adapter.min_frames says how many are needed.",
                )
            )
        return clip
