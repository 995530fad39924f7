"""Picture files of every kind are read as they are seen, or refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from namm_mm.errors import RunError
from namm_mm.image import read_picture


def test_a_photograph_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    picture = Image.new("RGB", (40, 20), "white")
    picture.paste("red", (0, 0, 10, 20))
    picture.save(tmp_path / "a.png", exif=exif)
    read = read_picture(tmp_path / "a.png")
    assert read.size == (20, 40)
    assert read.getpixel((10, 2)) == (255, 0, 0)
    assert read.getpixel((10, 38)) == (255, 255, 255)


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((0, 0), (0, 0, 255, 255))
    clear.save(tmp_path / "a.png")
    clear.convert("LA").save(tmp_path / "b.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 0, 255, 0])
    palette.putpixel((0, 0), 1)
    palette.save(tmp_path / "c.png", transparency=0)
    for name, colour in (("a", (0, 0, 255)), ("b", (29, 29, 29)), ("c", (0, 255, 0))):
        read = read_picture(tmp_path / f"{name}.png")
        assert read.mode == "RGB"
        assert (read.getpixel((0, 0)), read.getpixel((3, 3))) == (colour, (255, 255, 255))


def test_sixteen_bits_are_scaled_and_not_cut(tmp_path: Path) -> None:
    deep = np.array([[0, 32768, 65535]], np.uint16)
    for name in ("a.png", "b.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        read = np.asarray(read_picture(tmp_path / name))
        assert read[0, :, 0].tolist() == [0, 128, 255]


def test_cmyk_is_shown_in_its_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = read_picture(tmp_path / "a.jpg").getpixel((4, 4))  # type: ignore[misc]
    assert (red > 240, green < 15, blue < 15) == (True, True, True)


def test_several_pictures_in_a_file_are_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for name in ("a.gif", "b.png", "c.webp", "d.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(RunError, match=r"several pictures.*as a video"):
            read_picture(tmp_path / name)
    frames[0].save(tmp_path / "e.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "e.jpg").size == (8, 8)  # a camera's preview
    frames[0].save(tmp_path / "f.gif")
    assert read_picture(tmp_path / "f.gif").getpixel((0, 0)) == (255, 0, 0)


def test_damaged_files_are_refused_with_their_name(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a.png", "b.jpg", "c.webp", "d.tif"):
        Image.fromarray(noise).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RunError, match=rf"{name}.*(damaged|no picture)"):
            read_picture(tmp_path / name)
    (tmp_path / "e.png").write_bytes(b"no picture")
    (tmp_path / "f.png").write_bytes(b"")
    for name in ("e.png", "f.png"):
        with pytest.raises(RunError, match="no picture that PIL reads"):
            read_picture(tmp_path / name)
    with pytest.raises(RunError, match="no such picture"):
        read_picture(tmp_path / "g.png")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "h.tif")
    with pytest.raises(RunError, match="no highest value"):
        read_picture(tmp_path / "h.tif")
