"""Small pictures of what a model saw, kept beside the records for reports."""

from __future__ import annotations

import io
from pathlib import Path

from namm_mm.records import Inputs
from namm_mm.runs.disk import write_whole
from namm_mm.runs.names import file_name

HEIGHT = 64
"""Height of a frame in pixels."""

FOLDER = "frames"

SAMPLES = 24
"""Samples of one cell that are pictured; of more, every so many-th."""


def save_frames(run: Path, cell: str, inputs: Inputs) -> str:
    """Save the frames of a video sample side by side, as the model got them.

    Parameters
    ----------
    run
        The run folder.
    cell
        Name of the cell, for the file's name.
    inputs
        Prepared inputs; frames are their ``pixel_values_videos`` (1, frame, 3, height, width).

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
    """Return the frames of a video sample side by side, as JPEG; nothing where there are none."""
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
    packed = io.BytesIO()
    Image.fromarray(strip.numpy()).save(packed, "jpeg", quality=85)
    return packed.getvalue()
