"""The base of adapters on the LLaVA video models: they read frames, or pictures as frames.

The clip is fed first and the rest of the prompt after it, in two calls on one cache. For a
streaming memory this is the same as one call. Under ``prune_after_prefill`` the clip is the
prompt: the video is pruned before the question is known. With ``options`` the answer is the option
whose letter is the most probable at the last position. With ``words`` options are not listed, and
the answer is the option whose first word is the most probable. With ``generate`` the model decodes
greedily.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from namm_mm.adapters.common.context import check_length, read_extension
from namm_mm.adapters.common.multimodal import MultimodalAdapter, check_known, check_options
from namm_mm.adapters.video.kinds import POOLINGS
from namm_mm.adapters.video.loading import LoadedVideoModel, load_video_model
from namm_mm.adapters.video.prompt import Wording
from namm_mm.models.resolve import resolve
from namm_mm.records import FRAME_MARK, Inputs, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from namm_mm.records import TokenType
    from namm_mm.video import Clip


@dataclass(frozen=True)
class Shown:
    """What a model sees of a sample.

    Attributes
    ----------
    pixels
        (frame, 3, height, width), preprocessed.
    details
        What the record keeps of it.
    clip
        The frames of a video; None for pictures.
    """

    pixels: Tensor
    details: Mapping[str, Any]
    clip: Clip | None = None

    @classmethod
    def of_clip(cls, clip: Clip, loaded: LoadedVideoModel) -> Shown:
        """Return what a model sees of a clip."""
        pixels = loaded.preprocess(clip.frames)
        details = {"frames_seen": len(pixels), "video_seconds": round(clip.seconds, 3)}
        return cls(pixels, details, clip)


@dataclass
class FramesAdapter(MultimodalAdapter[LoadedVideoModel]):
    """Runs LlavaNextVideo, LlavaOnevision, VideoLlava or LLaVA-Video on frames.

    Options of all such adapters are those of
    :class:`namm_mm.adapters.common.multimodal.MultimodalAdapter`.

    Parameters
    ----------
    pooling
        ``average``, ``bilinear`` or ``max`` instead of the pooling of a model in LLaVA's own
        format.
    """

    model: str = "pocket_video"
    pooling: str | None = None

    def __post_init__(self) -> None:
        check_known(pooling=(self.pooling, (None, *POOLINGS)))
        super().__post_init__()

    @abstractmethod
    def shown(self, sample: Sample, marks: int) -> Shown:
        """Return what the model sees: as many frames as `marks`, where the prompt has some.

        Raises
        ------
        UsageError
            The sample holds nothing to see, or another number of it.
        RunError
            A file cannot be read.
        """

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the model is run, for every record."""
        pooling = {} if self.pooling is None else {"pooling": self.pooling}
        return {**super().facts, **pooling}

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

    def prepare(self, sample: Sample) -> Inputs:
        """Return the tokens of the prompt, with the frames in their places.

        The tokens of a frame are of the kind ``frame`` with the index of their frame. All others,
        and Onevision's closing newline, are of the kind ``text``.
        """
        loaded = self.loaded
        check_options(sample)
        marks = (sample.prompt or sample.context + sample.question).count(FRAME_MARK)
        shown = self.shown(sample, marks)
        layout = loaded.layout(shown.pixels)
        ids, types = layout.expand(
            loaded.encode(self._wording.prompt(sample, shown.clip)),
            loaded.placeholder_token,
            len(shown.pixels),
            one_each=bool(marks),
        )
        needed = len(ids) + self.new_tokens
        check_length(needed, loaded.context_length, name=self.model, sample=sample.id)
        tokens = torch.tensor([ids])
        device, dtype = loaded.model.device, loaded.model.dtype
        tensors = {
            "input_ids": tokens.to(device),
            "attention_mask": torch.ones_like(tokens).to(device),
            "pixel_values_videos": shown.pixels[None].to(device, dtype),
        }
        details = {"tokens_per_frame": layout.tokens_per_frame, **shown.details}
        return Inputs(tensors, self.named(types, layout.tokens_per_frame), sample, details)

    def named(self, types: list[TokenType], tokens_per_frame: int) -> tuple[TokenType, ...]:
        """Return the types of the tokens as this adapter calls them."""
        return tuple(types)

    def prompt(self, sample: Sample) -> str:
        """Return the whole prompt, with a placeholder for the video or for each of its frames."""
        return self._wording.prompt(sample)

    @property
    def tells_times(self) -> bool:
        """Whether the prompt says how long the video is and when its frames were."""
        return False

    @property
    def _wording(self) -> Wording:
        return Wording(self.loaded, self.lists_options, self.tells_times)
