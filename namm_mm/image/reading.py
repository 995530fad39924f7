"""Read a picture file as upright RGB, or say why it cannot be read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from namm_mm.errors import RunError, message

if TYPE_CHECKING:
    from PIL.Image import Image

STILL = ("MPO",)
"""Formats whose further pictures are previews or other views of the first."""

HIGHEST = 65535
"""The brightest value of a picture with 16 bits a channel."""

DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of PIL with one channel of 16 bits."""


def read_picture(path: Path) -> Image:
    """Return the picture in `path` as an RGB image of PIL.

    It is turned as its EXIF orientation says. Transparent parts are white. 16 bits are scaled to 8.
    CMYK and the other colour modes are converted as PIL does, like the published pipelines.

    Raises
    ------
    RunError
        The file is missing, damaged, cut off or no picture; it holds several pictures; or its
        numbers have no brightest value.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not path.is_file():
        raise RunError(message("no such picture", given=str(path), expected="an image file"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                _check_single(opened, path)
                opened.load()
                picture = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError as error:
        raise RunError(
            message(
                f"{path.name!r} is no picture that PIL reads",
                given=str(path),
                expected="PNG, JPEG, WebP, TIFF, BMP or GIF",
            )
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RunError(
            message(
                f"the picture {path.name!r} is damaged or cannot be decoded ({first})",
                given=str(path),
                expected="a whole image file",
            )
        ) from error
    return _rgb(picture, path)


def _check_single(opened: Image, path: Path) -> None:
    if opened.format in STILL:
        return
    try:
        opened.seek(1)
    except EOFError:
        return
    raise RunError(
        message(
            f"{path.name!r} holds several pictures",
            given=f"an animated or many-paged {opened.format}",
            expected="a single picture",
            then="Ask about an animation as a video, or save the page that is meant.",
        )
    )


def _rgb(picture: Image, path: Path) -> Image:
    import numpy as np
    from PIL import Image

    if picture.mode == "F":
        raise RunError(
            message(
                f"the brightness of {path.name!r} has no highest value",
                given="a picture of 32-bit floats",
                expected="8 or 16 bits a channel",
                then="Scale it to 8 bits first.",
            )
        )
    if picture.mode in DEEP:
        deep = np.asarray(picture).astype(np.int64)
        return Image.fromarray(
            (deep.clip(0, HIGHEST) * 255 / HIGHEST).round().astype(np.uint8)
        ).convert("RGB")
    if picture.has_transparency_data:
        seen = picture.convert("RGBA")
        white = Image.new("RGBA", seen.size, "white")
        return Image.alpha_composite(white, seen).convert("RGB")
    return picture.convert("RGB")
