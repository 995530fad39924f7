"""Small pictures of what a model saw, kept beside the records for reports."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from namm_mm.image import read_picture
from namm_mm.records import Inputs
from namm_mm.runs.disk import write_whole
from namm_mm.runs.names import file_name

if TYPE_CHECKING:
    from PIL.Image import Image

HEIGHT = 64
"""Height of a frame in pixels."""

FEW, TALL = 8, 160
"""Up to so many pictures of a sample are shown so high."""

FOLDER = "frames"

SAMPLES = 24
"""Samples of one cell that are pictured; of more, every so many-th."""


def save_frames(run: Path, cell: str, inputs: Inputs) -> str:
    """Save the frames of a video, the pictures, or the sounds of a sample side by side.

    Parameters
    ----------
    run
        The run folder.
    cell
        Name of the cell, for the file's name.
    inputs
        Prepared inputs; frames are their ``pixel_values_videos`` (1, frame, 3, height, width),
        sounds their ``input_features`` (window, band, time), and pictures the files of their
        sample.

    Returns
    -------
    str
        The picture's path within the run folder; empty where there are no frames, or where it
        cannot be written: a full disk costs the picture and not the sample.
    """
    picture = frame_strip(inputs)
    if not picture:
        return ""
    file = run / FOLDER / f"{file_name(cell, inputs.sample.id)}.jpg"
    try:
        file.parent.mkdir(exist_ok=True)
        write_whole(file, picture)
    except OSError:
        return ""
    return file.relative_to(run).as_posix()


def frame_strip(inputs: Inputs) -> bytes:
    """Return what a sample shows side by side, each as wide, as JPEG; empty if it shows nothing."""
    if inputs.sample.images:
        return _pictures(inputs.sample.images)
    if "feature_attention_mask" in inputs.tensors:
        return _spectrograms(inputs)
    frames = inputs.tensors.get("pixel_values_videos")
    if frames is None or frames.ndim != 5 or frames.shape[2] != 3:
        return b""
    import torch
    from PIL import Image

    pixels = frames[0].detach().to("cpu", torch.float32)
    low, high = pixels.amin(), pixels.amax()  # undoes the normalisation up to brightness and tint
    pixels = (pixels - low) / (high - low).clamp_min(1e-6)
    width = max(1, round(HEIGHT * pixels.shape[-1] / pixels.shape[-2]))
    small = torch.nn.functional.interpolate(
        pixels, size=(HEIGHT, width), mode="bilinear", antialias=True
    )
    strip = (255 * small.clamp(0, 1)).round().to(torch.uint8)
    strip = strip.permute(2, 0, 3, 1).reshape(HEIGHT, -1, 3)  # frames from left to right
    return _jpeg(Image.fromarray(strip.numpy()))


def _spectrograms(inputs: Inputs) -> bytes:
    """Return the spectrograms of all sounds, a square for each second; low tones are below.

    Seconds are those of the token types: the last one of a sound is filled up with black.
    """
    import torch
    from PIL import Image

    counts = Counter((one.kind, one.index) for one in inputs.token_types if one.kind != "text")
    whole = max(counts.values())
    squares = []
    features = inputs.tensors["input_features"].detach().to("cpu", torch.float32)
    lengths = inputs.tensors["feature_attention_mask"].sum(-1).tolist()
    joined = torch.cat([window[:, :n] for window, n in zip(features, lengths, strict=True)], dim=1)
    low, high = joined.amin(), joined.amax()
    joined = ((joined - low) / (high - low).clamp_min(1e-6)).flip(0)
    per_token = joined.shape[1] / sum(counts.values())
    at = 0.0
    for tokens in counts.values():
        part = joined[:, round(at) : max(round(at + tokens * per_token), round(at) + 1)]
        at += tokens * per_token
        width = max(1, round(HEIGHT * tokens / whole))
        drawn = torch.nn.functional.interpolate(
            part[None, None], size=(HEIGHT, width), mode="bilinear"
        )
        squares.append(torch.nn.functional.pad(drawn[0, 0], (0, HEIGHT - width)))
    strip = (255 * torch.cat(squares, dim=1)).round().to(torch.uint8)
    return _jpeg(Image.fromarray(strip.numpy()))


def _pictures(files: Sequence[Path]) -> bytes:
    """Return pictures side by side, stretched to the mean of their shapes."""
    from PIL import Image

    read = [read_picture(file) for file in files]
    height = TALL if len(read) <= FEW else HEIGHT
    shape = sum(picture.width / picture.height for picture in read) / len(read)
    width = max(8, min(4 * height, round(height * shape)))
    strip = Image.new("RGB", (width * len(read), height))
    for place, picture in enumerate(read):
        strip.paste(picture.resize((width, height)), (place * width, 0))
    return _jpeg(strip)


def _jpeg(picture: Image) -> bytes:
    packed = io.BytesIO()
    picture.save(packed, "jpeg", quality=85)
    return packed.getvalue()
