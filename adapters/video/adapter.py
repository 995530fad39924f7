"""Video: multiple choice and free answers by the LLaVA video models of transformers.

The clip is fed first and the rest of the prompt after it, in two calls on one cache. For a
streaming memory this is the same as one call. Under ``prune_after_prefill`` the clip is the
prompt: the video is pruned before the question is known. With ``options`` the answer is the option
whose letter is the most probable at the last position. With ``words`` options are not listed, and
the answer is the option whose first word is the most probable. With ``generate`` the model decodes
greedily.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from namm_mm.adapters.common.context import check_length, read_extension
from namm_mm.adapters.common.multimodal import (
    MultimodalAdapter,
    check_known,
    check_options,
    check_positive,
)
from namm_mm.adapters.video.kinds import POOLINGS
from namm_mm.adapters.video.loading import LoadedVideoModel, load_video_model
from namm_mm.adapters.video.prompt import Wording
from namm_mm.errors import RunError, UsageError, message
from namm_mm.models.resolve import resolve
from namm_mm.records import FRAME_MARK, Inputs, Sample
from namm_mm.records.shape import TEXT, VIDEO
from namm_mm.video import BACKENDS, SAMPLINGS, Clip, sample_frames

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class LlavaVideoAdapter(MultimodalAdapter):
    """Runs LlavaNextVideo, LlavaOnevision, VideoLlava or LLaVA-Video on questions about files.

    Options of all such adapters are those of
    :class:`namm_mm.adapters.common.multimodal.MultimodalAdapter`.

    Parameters
    ----------
    frames
        How many frames to sample from a file; a shorter file gives all it has.
    min_frames
        The sample of a file with fewer frames fails.
    sampling
        ``even``, ``ends`` or ``stride``: see :func:`namm_mm.video.spread`.
    pooling
        ``average``, ``bilinear`` or ``max`` instead of the pooling of a model in LLaVA's own
        format.
    time_instruction
        Tell the model how long the video is and when its frames were, as LLaVA-Video was tuned.
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
    pooling: str | None = None
    time_instruction: bool = False
    decoder: str = "auto"
    _loaded: LoadedVideoModel | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_known(
            sampling=(self.sampling, SAMPLINGS),
            pooling=(self.pooling, (None, *POOLINGS)),
            decoder=(self.decoder, ("auto", *BACKENDS)),
        )
        super().__post_init__()
        check_positive(frames=self.frames, min_frames=self.min_frames)

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the model is run, for every record."""
        own = {"frames_wanted": self.frames, "sampling": self.sampling}
        pooling = {} if self.pooling is None else {"pooling": self.pooling}
        return {**own, **super().facts, **pooling}

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
        check_options(sample)
        marks = sample.prompt.count(FRAME_MARK)
        clip = self._clip(sample, marks)
        pixels = loaded.preprocess(clip.frames)
        layout = loaded.layout(pixels)
        ids, types = layout.expand(
            loaded.encode(self._wording.prompt(sample, clip)),
            loaded.placeholder_token,
            len(pixels),
            one_each=bool(marks),
        )
        check_length(
            len(ids) + self.new_tokens, loaded.context_length, name=self.model, sample=sample.id
        )
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

    def prompt(self, sample: Sample) -> str:
        """Return the whole prompt, with a placeholder for the video or for each of its frames."""
        return self._wording.prompt(sample)

    @property
    def loaded(self) -> LoadedVideoModel:
        """The model, with its tokenizer and preprocessor; raises `UsageError` before `load`."""
        if self._loaded is None:
            raise UsageError("the video adapter has no model yet: call `load()` first.")
        return self._loaded

    @property
    def _wording(self) -> Wording:
        return Wording(self.loaded, self.lists_options, self.time_instruction)

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
