"""Draw what was kept over the frames of a video: pictures and short films for people to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from namm_mm.records.shape import SOUND
from namm_mm.runs.history import History

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

DARKEST = 0.88
"""How dark a patch is that nothing holds any more."""

TILE, WIDEST = 96, 1440
"""Height of a frame in pixels; less where a row of frames would be wider than so many."""

LABEL, HEAD = 150, 26
"""Width of the labels beside the rows, and height of the title above them."""

FILM_RATE = 1
"""Pictures of a film per second."""


def shaded(
    frames: Image.Image,
    history: History,
    update: int | None = None,
    layer: int | None = None,
    head: int | None = None,
) -> NDArray[np.uint8]:
    """Return the frames side by side (height, width, 3): forgotten patches dark, unseen ones grey.

    Of a sound they are its seconds, whose tokens go from left to right.

    Parameters
    ----------
    frames
        All frames side by side, as :func:`namm_mm.runs.pictures.save_frames` saves them.
    history
        Of the sample.
    update, layer, head
        As in :meth:`~namm_mm.runs.history.History.kept`.
    """
    fractions = history.kept(update, layer, head)
    heard = [kind for kind in history.kinds if kind.startswith(SOUND)]
    groups = [group for kind in heard or ["frame"] for group in history.of_kind(kind, fractions)]
    width, high = _tile(frames, len(groups))
    picture = frames.convert("RGB").resize((width * len(groups), high))
    pixels = np.asarray(picture, dtype=np.float64).copy()
    longest = max(map(len, groups))
    for place, patches in enumerate(groups):
        down = across = round(len(patches) ** 0.5)
        if heard:
            down, across = 1, longest
            patches = np.pad(patches, (0, longest - len(patches)), constant_values=1.0)
        elif down * across != len(patches):  # no square grid of patches: the frame's mean
            patches, down, across = np.array([patches.mean()]), 1, 1
        rows = np.minimum(np.arange(high) * down // high, down - 1)
        columns = np.minimum(np.arange(width) * across // width, across - 1)
        kept = patches.reshape(down, across)[rows][:, columns, None]
        frame = pixels[:, place * width : (place + 1) * width]
        light = 1.0 - DARKEST * (1.0 - np.nan_to_num(kept))
        frame[:] = np.where(np.isnan(kept), 150.0 + 0.15 * (frame - 128.0), frame * light)
        frame[:, -2:] = 255.0
    return pixels.round().clip(0, 255).astype(np.uint8)


def sheet(
    frames: Image.Image,
    rows: Sequence[tuple[str, History]],
    title: str,
    update: int | None = None,
    layer: int | None = None,
) -> Image.Image:
    """Return one picture: a labelled row of frames for each policy, at one moment.

    A policy with fewer updates is shown at its own last one.
    """
    from PIL import Image, ImageDraw, ImageFont

    strips = []
    for _, history in rows:
        last = len(history.seen) - 1
        strips.append(shaded(frames, history, None if update is None else min(update, last), layer))
    high, width, _ = strips[0].shape
    high = max(high, 44)
    font = ImageFont.load_default(13)
    side = max(LABEL, *(int(font.getlength(label)) + 12 for label, _ in rows))
    page = Image.new("RGB", (side + width, HEAD + len(rows) * (high + 6)), "white")
    pen = ImageDraw.Draw(page)
    pen.text((6, 5), title, fill="black", font=font)
    for place, ((label, history), strip) in enumerate(zip(rows, strips, strict=True)):
        top = HEAD + place * (high + 6)
        part = float(np.nanmean(history.kept(update, layer))) if history.seen else 1.0
        pen.text((6, top + 4), label, fill="black", font=font)
        pen.text((6, top + 22), f"{100 * part:.0f} % kept", fill="#555555", font=font)
        page.paste(Image.fromarray(strip), (side, top))
    return page


def _tile(frames: Image.Image, count: int) -> tuple[int, int]:
    """Width and height of one frame of the `count` in the picture."""
    ratio = frames.width / count / frames.height
    high = min(TILE, WIDEST / count / ratio)
    return max(1, round(high * ratio)), max(1, round(high))


def film_pictures(
    frames: Image.Image, rows: Sequence[tuple[str, History]]
) -> Iterator[Image.Image]:
    """Yield the pictures of a film: update by update, then layer by layer at the end."""
    longest = max((history for _, history in rows), key=lambda history: len(history.seen))
    count = len(longest.seen)
    for update in range(count):
        title = f"update {update + 1} of {count}: {longest.seen[update]} tokens seen; all layers"
        yield sheet(frames, rows, title, update)
    yield sheet(frames, rows, "at the end; all layers")
    for place, layer in enumerate(longest.layers):
        yield sheet(frames, rows, f"at the end; layer {layer}", None, place)


def save_film(pictures: Sequence[Image.Image], file: Path, rate: float = FILM_RATE) -> Path:
    """Write pictures of equal size as ``.mp4``; as ``.gif`` where no encoder is at hand.

    Parameters
    ----------
    pictures
        At least one.
    file
        The ``.mp4``; its folder is made.
    rate
        Pictures per second.

    Returns
    -------
    Path
        The file that was written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        _encode(pictures, file, rate)
        return file
    except Exception:  # codecs differ from build to build of ffmpeg, and so do its errors
        file.unlink(missing_ok=True)
        gif = file.with_suffix(".gif")
        first, *others = pictures
        first.save(gif, save_all=True, append_images=others, duration=round(1000 / rate), loop=0)
        return gif


def _encode(pictures: Sequence[Image.Image], file: Path, rate: float) -> None:
    from fractions import Fraction

    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height = (side - side % 2 for side in pictures[0].size)
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            even = np.asarray(picture.crop((0, 0, stream.width, stream.height)))
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
