"""The adapter album: pictures are the frames of a video model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import video_checkpoints
from PIL import Image

from namm_mm.adapters.image.kinds import KINDS
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.adapters.video.album import AlbumAdapter
from namm_mm.errors import UsageError
from namm_mm.models import composed
from namm_mm.records import Sample, TokenType
from namm_mm.tasks.image_qa import ImageQaTask
from namm_mm.tasks.video_qa.encode import write_mp4

pytestmark = pytest.mark.numeric

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "your-images.md"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    video_checkpoints.save_checkpoint(folder, "llava_next_video")
    return folder


def pictures(folder: Path, count: int) -> tuple[Path, ...]:
    files = tuple(folder / f"{number}.png" for number in range(count))
    for number, file in enumerate(files):
        Image.new("RGB", (64, 64), (60 * number, 90, 160)).save(file)
    return files


def test_pictures_are_read_as_a_clip_of_them_would_be(model: Path, tmp_path: Path) -> None:
    files = pictures(tmp_path, 3)
    frames = [np.asarray(Image.open(file)) for file in files]
    write_mp4(tmp_path / "clip.mp4", iter(frames), rate=4)
    album = AlbumAdapter(model=str(model), dtype="float32", device="cpu")
    video = LlavaVideoAdapter(model=str(model), frames=3, dtype="float32", device="cpu")
    album.load()
    video.load()
    asked = Sample("s", "f", question="What color was it?", images=files)
    ours = album.prepare(asked)
    theirs = video.prepare(
        Sample("s", "f", question="What color was it?", video=tmp_path / "clip.mp4")
    )
    assert ours.tensors["input_ids"].tolist() == theirs.tensors["input_ids"].tolist()
    pixels = [one.tensors["pixel_values_videos"] for one in (ours, theirs)]
    assert (pixels[0] - pixels[1]).abs().max() < 0.1  # the video is compressed
    patches = [one for one in ours.token_types if one.kind == "image"]
    square = [TokenType("image", 1, row, column) for row in (0, 1) for column in (0, 1)]
    assert [one for one in patches if one.index == 1] == square
    assert [one.index for one in patches] == [i for i in range(3) for _ in square]


def test_pictures_of_other_shapes_stand_where_the_words_say(model: Path, tmp_path: Path) -> None:
    album = AlbumAdapter(model=str(model), dtype="float32", device="cpu")
    album.load()
    files = pictures(tmp_path, 2)
    Image.new("RGB", (300, 90)).save(files[0])
    inputs = album.prepare(
        Sample("s", "f", question="What color <image> was it <image> ?", images=files)
    )
    kinds = [one.kind == "image" for one in inputs.token_types]
    assert sum(kinds[at] and not kinds[at - 1] for at in range(1, len(kinds))) == 2
    with torch.no_grad():
        assert album.answer(inputs, None).text is not None
    for given, words in (((), "What?"), (files, "What is <image> ?")):
        with pytest.raises(UsageError, match="another number of places"):
            album.prepare(Sample("s", "f", question=words, images=given))


def test_the_page_names_every_family_that_is_served() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if "| `" in line}
    assert set(rows) >= set(KINDS)
    for name, kind in KINDS.items():
        assert f"`{kind.model_class}`" in rows[name]


@pytest.mark.slow
@pytest.mark.skipif(bool(composed.missing()), reason=f"needs `{composed.missing()}`")
def test_the_bundled_model_answers_about_albums_and_without_them_is_at_chance(
    tmp_path: Path,
) -> None:
    album = AlbumAdapter(device="cpu")
    album.load()
    seen = blind = 0
    for sample in ImageQaTask(cache=str(tmp_path)).samples("test", 15, seed=0):
        inputs = album.prepare(sample)
        seen += album.answer(inputs, None).text == sample.answer
        ids = inputs.tensors["input_ids"]
        words = album.loaded.first_tokens(album.prompt(sample), sample.options)
        with torch.no_grad():
            text = ids[ids != album.loaded.placeholder_token][None]
            logits = album.loaded.model(input_ids=text).logits[0, -1]
        blind += sample.options[int(logits[words].argmax())] == sample.answer
    assert seen >= 13, f"{seen} of 15 right with the pictures"
    assert blind <= 8, f"{blind} of 15 right without: the questions give their answers away"
