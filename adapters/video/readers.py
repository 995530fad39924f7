"""Frames as the video processors of transformers prepare them, without torchvision.

Each class stands in for the video processor of a published processor, which words the prompt and
counts the tokens itself. Pixel values are computed by the image processor of the same family with
the settings for videos: the rule of each video processor is that of the image processor, applied to
every frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from namm_mm.errors import RunError, message

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGE = {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768}
LARGE_3 = {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768}
"""Pixels of a frame of Qwen2-VL, and of a video of Qwen3-VL, where the checkpoint does not say."""


@dataclass
class FrameReader(ABC):
    """Stands in for the video processor of a published processor.

    Attributes
    ----------
    pixels
        The image processor of the family, with the settings for videos.
    settings
        The checkpoint's settings for videos.
    """

    pixels: Any
    settings: Mapping[str, Any]
    num_frames: int | None = None
    fps: float | None = None

    def __call__(self, videos: Sequence[Any], **given: Any) -> dict[str, Any]:
        """Return what the published video processor returns for one video."""
        (frames,) = videos
        return {**self.read(np.asarray(frames)), "video_metadata": given.get("video_metadata")}

    @abstractmethod
    def read(self, frames: NDArray[np.uint8]) -> dict[str, Any]:
        """Return the tensors of (frame, height, width, 3) frames."""


@dataclass
class QwenReader(FrameReader):
    """Qwen2-VL and Qwen2.5-VL: patches of two frames each, in a grid of the clip's own size."""

    merge_size: int = 2
    temporal_patch_size: int = 2

    def read(self, frames: NDArray[np.uint8]) -> dict[str, Any]:
        """Return ``pixel_values_videos`` and ``video_grid_thw``."""
        found = self.patches(frames)
        rows, columns = (int(edge) for edge in found["image_grid_thw"][0, 1:])
        depth = self.temporal_patch_size
        side = int(self.pixels.patch_size)
        # The image processor is told that a patch holds one frame.
        single = found["pixel_values"].view(len(frames), rows * columns, -1, 1, side * side)
        if over := -len(frames) % depth:
            single = torch.cat([single, single[-1:].expand(over, -1, -1, -1, -1)])
        pairs = single.unflatten(0, (-1, depth)).squeeze(4).permute(0, 2, 3, 1, 4)
        grid = torch.tensor([[len(pairs), rows, columns]])
        return {"pixel_values_videos": pairs.flatten(0, 1).flatten(1), "video_grid_thw": grid}

    def patches(self, frames: NDArray[np.uint8]) -> Any:
        """Return what the image processor makes of every frame, for patches of one frame."""
        return self.pixels(
            list(frames),
            size=self.size(LARGE),
            temporal_patch_size=1,
            input_data_format="channels_last",
            return_tensors="pt",
        )

    def size(self, default: dict[str, int]) -> dict[str, int]:
        """Return the least and the most pixels."""
        size = dict(self.settings.get("size") or default)
        names = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}
        return {**size, **{names[k]: self.settings[k] for k in names if self.settings.get(k)}}


@dataclass
class Qwen3Reader(QwenReader):
    """Qwen3-VL: the pixels of all frames together have a limit."""

    def patches(self, frames: NDArray[np.uint8]) -> Any:
        """Return the patches of frames that were resized for the whole clip."""
        from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

        size = self.size(LARGE_3)
        target = smart_resize(
            num_frames=len(frames),
            height=frames.shape[1],
            width=frames.shape[2],
            temporal_factor=self.temporal_patch_size,
            factor=int(self.pixels.patch_size) * self.merge_size,
            min_pixels=size["shortest_edge"],
            max_pixels=size["longest_edge"],
        )
        area = target[0] * target[1]
        return self.pixels(  # every frame has this size and no other
            [self._resized(frame, target) for frame in frames],
            size={"shortest_edge": area, "longest_edge": area},
            temporal_patch_size=1,
            input_data_format="channels_last",
            return_tensors="pt",
        )

    def _resized(self, frame: NDArray[np.uint8], target: tuple[int, int]) -> NDArray[np.uint8]:
        from PIL import Image

        kind = Image.Resampling(int(self.pixels.resample))
        return np.asarray(Image.fromarray(frame).resize(target[::-1], kind))


@dataclass
class InternReader(FrameReader):
    """InternVL: every frame is one tile."""

    def read(self, frames: NDArray[np.uint8]) -> dict[str, Any]:
        """Return ``pixel_values_videos`` (1, frame, 3, height, width)."""
        size = {"size": self.settings["size"]} if self.settings.get("size") else {}
        found = self.pixels(
            list(frames),
            crop_to_patches=False,
            input_data_format="channels_last",
            return_tensors="pt",
            **size,
        )
        return {"pixel_values_videos": found["pixel_values"][None]}


@dataclass
class SmolReader(FrameReader):
    """SmolVLM: every frame is one square, with its time before it."""

    def read(self, frames: NDArray[np.uint8]) -> dict[str, Any]:
        """Return ``pixel_values`` (1, frame, 3, height, width) and their mask."""
        sampling = self.settings.get("video_sampling") or {}
        size = sampling.get("video_size") or self.settings.get("size")
        found = self.pixels(
            [list(frames)],
            do_image_splitting=False,
            input_data_format="channels_last",
            return_tensors="pt",
            **({"size": size} if size else {}),
        )
        return {name: found[name] for name in ("pixel_values", "pixel_attention_mask")}


READERS: Mapping[str, type[FrameReader]] = {
    "qwen2_vl": QwenReader,
    "qwen2_5_vl": QwenReader,
    "qwen3_vl": Qwen3Reader,
    "internvl": InternReader,
    "smolvlm": SmolReader,
}
"""The families whose processors word videos, and who reads the frames for each."""


def grid_of(
    tensors: Mapping[str, Tensor], frames: int, placeholders: int, merge: int
) -> tuple[int, int, int]:
    """Return steps in time, rows and columns of a video's placeholders.

    Raises
    ------
    RunError
        They are laid out in another way.
    """
    if "video_grid_thw" in tensors:
        steps, rows, columns = tensors["video_grid_thw"][0].tolist()
        rows, columns = rows // merge, columns // merge
    else:
        steps = frames
        rows = columns = round((placeholders / frames) ** 0.5)
    if steps * rows * columns != placeholders:
        raise RunError(
            message(
                "the frames of a video are laid out in another way than is known",
                given=f"{placeholders} placeholders",
                expected=f"{steps} x {rows} x {columns}",
            )
        )
    return int(steps), int(rows), int(columns)
