"""Turn frames into pixel values as the Hugging Face video processors do, without torchvision.

Frames are resized (bicubic with antialiasing, on uint8), cropped at the centre, rescaled and
normalised, with the sizes, mean and deviation of the checkpoint's preprocessor configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.adapters.common.files import read_json
from namm_mm.errors import RunError, message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class FramePreprocessor:
    """The preprocessing of frames that a checkpoint was trained with.

    Attributes
    ----------
    size
        (height, width) to resize to, or one number for the shortest edge; None leaves the size.
    crop
        (height, width) of the centre crop; None crops nothing.
    rescale
        Factor from uint8 values to the units of `mean` and `std`.
    mean, std
        Per channel; None skips the normalisation.
    resample
        Number of the filter in PIL: 2 bilinear, 3 bicubic.
    """

    size: tuple[int, int] | int | None = 224
    crop: tuple[int, int] | None = (224, 224)
    rescale: float = 1 / 255
    mean: tuple[float, ...] | None = _CLIP_MEAN
    std: tuple[float, ...] | None = _CLIP_STD
    resample: int = 3

    def __call__(self, frames: NDArray[np.uint8]) -> Tensor:
        """Return (frame, height, width, 3) uint8 RGB as (frame, 3, height, width) float32."""
        import torch

        pixels = torch.from_numpy(self._resize(frames)).permute(0, 3, 1, 2)
        pixels = _crop(pixels, self.crop).float() * self.rescale
        if self.mean is not None and self.std is not None:
            mean, std = torch.tensor(self.mean), torch.tensor(self.std)
            pixels = (pixels - mean[:, None, None]) / std[:, None, None]
        return pixels

    def _resize(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize by PIL, which rounds between its two passes as torchvision does on a CPU."""
        import numpy as np
        from PIL import Image

        if self.size is None:
            return frames
        height, width = frames.shape[1:3]
        if isinstance(self.size, int):
            short, long = min(height, width), max(height, width)
            other = int(self.size * long / short)
            target = (other, self.size) if height > width else (self.size, other)
        else:
            target = self.size
        if target == (height, width):
            return frames
        kind = Image.Resampling(self.resample)
        return np.stack(
            [np.asarray(Image.fromarray(frame).resize(target[::-1], kind)) for frame in frames]
        )


def _crop(pixels: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Return the centre of `size`; smaller frames get a black border first."""
    if size is None:
        return pixels
    import torch

    height, width = pixels.shape[-2:]
    if height < size[0] or width < size[1]:
        more = max(size[1] - width, 0), max(size[0] - height, 0)
        border = (more[0] // 2, (more[0] + 1) // 2, more[1] // 2, (more[1] + 1) // 2)
        pixels = torch.nn.functional.pad(pixels, border)
        height, width = pixels.shape[-2:]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return pixels[..., top : top + size[0], left : left + size[1]]


SIGLIP = {
    "do_center_crop": False,
    "size": {"height": 384, "width": 384},
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
"""Preprocessing of the SigLIP tower, which checkpoints in LLaVA's own format leave out."""


def read_preprocessor(config: Mapping[str, Any], model_type: str) -> FramePreprocessor:
    """Return the preprocessing of a configuration, with the defaults of the model class."""
    square = model_type == "llava_onevision"
    size = config.get("size", {"height": 384, "width": 384} if square else {"shortest_edge": 224})
    if isinstance(size, int):
        size = {"shortest_edge": size}
    edge = size.get("shortest_edge")
    target = int(edge) if edge else (int(size["height"]), int(size["width"]))
    crop = config.get("crop_size") or {"height": 224, "width": 224}
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    normalise = config.get("do_normalize", True)
    return FramePreprocessor(
        size=target if config.get("do_resize", True) else None,
        crop=(int(crop["height"]), int(crop["width"]))
        if config.get("do_center_crop", not square)
        else None,
        rescale=float(config.get("rescale_factor", 1 / 255))
        if config.get("do_rescale", True)
        else 1.0,
        mean=tuple(config.get("image_mean") or _CLIP_MEAN) if normalise else None,
        std=tuple(config.get("image_std") or _CLIP_STD) if normalise else None,
        resample=int(config.get("resample", 3)),
    )


def processor_files(source: Path | str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the frame preprocessor's and the processor's configuration of a checkpoint.

    Versions of transformers store the first in different places: in
    ``video_preprocessor_config.json``, inside ``processor_config.json``, or in
    ``preprocessor_config.json``. A chat template in a file of its own is added to the second.
    """
    processor = read_json(source, "processor_config.json", name)
    template = read_json(source, "chat_template.json", name).get("chat_template")
    if template:
        processor.setdefault("chat_template", template)
    video = (
        read_json(source, "video_preprocessor_config.json", name)
        or processor.get("video_processor")
        or read_json(source, "preprocessor_config.json", name)
    )
    if not video:
        raise RunError(
            message(
                f"the model {name!r} has no frame preprocessor",
                given=str(source),
                expected="video_preprocessor_config.json or preprocessor_config.json beside it",
                then="Without the mean and size it was trained with, its answers mean nothing.",
            )
        )
    return dict(video), processor
