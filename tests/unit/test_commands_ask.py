"""One command answers a question about a file under several policies, and says what each kept."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import speech_checkpoints
import text_checkpoints
from PIL import Image

from namm_mm.cli import main

LINES = "".join(f"On day {day} it rained for {day} hours.\n" for day in range(1, 12))


@pytest.fixture
def model(tmp_path: Path) -> str:
    return text_checkpoints.save(tmp_path / "model", max_position_embeddings=1024)


@pytest.fixture
def note(tmp_path: Path) -> Path:
    file = tmp_path / "note.txt"
    file.write_text(LINES, encoding="utf-8-sig")
    return file


def test_answers_stand_side_by_side_with_tokens_and_bytes(
    model: str, note: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ask", model, "Did it rain?", "--file", str(note), "--budget", "0.25"]
    assert main([*words, "--policy", "h2o", "--compare", "full,snapkv", "--tokens", "4",
                 "--interval", "64", "--show"]) == 0  # fmt: skip
    told = capsys.readouterr().out
    assert "fraction:0.25" in told
    assert told.count("match:h2o") == 2  # in the table, and where its tokens are shown
    assert "100 %" in told
    assert told.count("On day 7 it rained") == 3


def test_a_cache_larger_than_the_full_one_is_marked(
    model: str, note: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "ask",
        model,
        "Did it rain?",
        "--file",
        str(note),
        "--tokens",
        "2",
        "--compare",
        "full",
    ]
    page = tmp_path / "page.html"
    assert main([*words, "--policy", "h2o", "--budget", "4096", "--output", str(page)]) == 2
    assert main([*words, "--policy", "h2o", "--budget", "tokens:4096", "--output", str(page)]) == 0
    assert (
        "over full: larger than" in capsys.readouterr().out
    )  # its statistics come on top of every token
    assert "larger than the full cache" in page.read_text(encoding="utf-8")


def test_a_prompt_shorter_than_an_interval_is_told(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", model, "Why?", "--compare", "", "--tokens", "2"]) == 2
    assert main(["ask", model, "Why?", "--compare", "full", "--tokens", "2"]) == 0
    assert "Nothing was evicted" in capsys.readouterr().out


def test_a_video_is_asked_about_frame_by_frame(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = next((tiny / "clips").rglob("*.mp4"))
    words = ["ask", str(tiny / "video"), "What?", "--file", str(clip), "--policy", "recency"]
    page = tmp_path / "page.html"
    assert main([*words, "--budget", "tokens:8", "--interval", "16", "--compare", "full",
                 "--tokens", "2", "--show", "--output", str(page)]) == 0  # fmt: skip
    told = capsys.readouterr().out
    assert "frame   0" in told
    assert "larger than the full cache" not in told
    assert f"page: {page}" in told.replace("\n", "")
    text = page.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    (view,) = json.loads(data)
    assert view["form"] == "frames"
    assert view["frames"].startswith("data:image/jpeg;base64,")
    assert [one["policy"] for one in view["histories"]] == ["recency (tokens:8)", "full (full)"]
    assert view["histories"][0]["seen"]


def test_a_sound_is_asked_about_second_by_second(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = speech_checkpoints.samples(tmp_path)[0]
    page = tmp_path / "page.html"
    words = ["ask", str(tiny / "speech"), "What?", "--file", str(sample.sounds[0]), "--show"]
    assert main([*words, "--policy", "recency", "--budget", "tokens:8", "--interval", "16",
                 "--compare", "full", "--tokens", "2", "--output", str(page)]) == 0  # fmt: skip
    told = capsys.readouterr().out
    assert re.search(r"sound, second   0 +0.0 %", told)
    assert "sound, second   1 ####" in told
    assert f"page: {page}" in told.replace("\n", "")
    (data,) = re.findall(
        r'<script type="application/json">(.*?)</script>', page.read_text("utf-8"), re.DOTALL
    )
    (view,) = json.loads(data)
    assert view["form"] == "sound"
    assert view["about"][1] == ["file", "0.wav"]
    picture = view["frames"].removeprefix("data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(picture))) as squares:
        assert squares.size == (2 * 64, 64)  # of 1.5 seconds
        grey = np.asarray(squares.convert("L"), dtype=float)
    assert grey[:, :64].mean() > 40  # noise everywhere
    assert grey[:, 112:].max() < 40  # what is beyond the end is black


def test_several_pictures_are_asked_about_patch_by_patch(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    files = [str(tiny / "pictures" / name) for name in ("page.png", "photo.jpg")]
    words = ["ask", str(tiny / "image"), "What?", "--file", files[0], "--file", files[1], "--show"]
    options = ["--budget", "tokens:20", "--interval", "16", "--compare", "full", "--tokens", "2"]
    assert main([*words, "--policy", "recency", *options, "--output", str(page)]) == 0
    told = capsys.readouterr().out
    first, second = (float(part) for part in re.findall(r"picture +\d #* +([\d.]+) %", told)[:2])
    assert first < second  # the newest tokens stay
    assert "part of each picture's tokens" in told
    text = page.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    (view,) = json.loads(data)
    assert view["form"] == "pictures"
    assert view["about"][1:] == [["file", "page.png"], ["file", "photo.jpg"]]
    picture = view["frames"].removeprefix("data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(picture))) as shown:
        pixels = np.asarray(shown.convert("RGB"))
    assert [int(pixels[80, x].argmax()) for x in (80, 240)] == [0, 2]  # red, then blue
    history = view["histories"][0]
    tokens, count = history["tokens"], len(history["layers"]) * history["heads"] * history["tokens"]
    packed = gzip.decompress(base64.b64decode(history["packed"]))
    rows, columns = (
        np.frombuffer(packed, "<i2", tokens, 2 * count + start * tokens) for start in (4, 6)
    )
    places = list(zip(rows[rows >= 0].tolist(), columns[columns >= 0].tolist(), strict=True))
    assert places == 2 * [(row, column) for row in range(4) for column in range(4)]


def test_a_video_model_reads_pictures_as_frames(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ask", str(tiny / "video"), "What?", "--file", str(tiny / "pictures" / "page.png")]
    assert main([*words, "--compare", "full", "--interval", "16", "--tokens", "2", "--show",
                 "--output", str(tmp_path / "page.html")]) == 0  # fmt: skip
    assert "picture   0 ####" in capsys.readouterr().out


def test_a_qwen_reads_a_video_by_its_own_processor(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ask", str(tiny / "chat"), "What?", "--file", str(tiny / "clips" / "red.mp4")]
    assert main([*words, "--compare", "full", "--interval", "16", "--tokens", "2", "--show",
                 "--output", str(tmp_path / "page.html")]) == 0  # fmt: skip
    assert "frame   0 ####" in capsys.readouterr().out


def test_a_page_of_a_text_is_written_where_it_is_asked_for(
    model: str, note: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ask", model, "Did it rain?", "--file", str(note), "--tokens", "2"]
    page = tmp_path / "below" / "page.html"
    assert main([*words, "--budget", "0.25", "--interval", "64", "--output", str(page)]) == 0
    assert '"form": "text"' in page.read_text(encoding="utf-8")
    assert main([*words, "--output", str(note / "page.html")]) == 1
    assert "Choose another file with --output FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["MODEL"], "a model and a question"),
        (["MODEL", "Why?", "--file", "absent.txt"], "no such file"),
        (["MODEL", "Why?", "--file", "FOLDER/face.png"], "that the image adapter does not support"),
        (["MODEL", "Why?", "--file", "FOLDER/face.heic"], "heif-convert face.heic"),
        (
            ["MODEL", "Why?", "--file", "FOLDER/face.png", "--file", "FOLDER/voice.wav"],
            "do not go together",
        ),
        (
            ["MODEL", "Why?", "--file", "FOLDER/latin.txt", "--file", "FOLDER/latin.txt"],
            "one file, or several pictures",
        ),
        (["MODEL", "Why?", "--file", "FOLDER/voice.wav"], "does not serve the class"),
        (["MODEL", "Why?", "--file", "FOLDER/latin.txt"], "byte 1"),
        (["MODEL", "Why?", "--tokens", "many"], "wrong --tokens"),
        (["MODEL", "Why?", "--policy", "snapvk"], "Did you mean 'snapkv'"),
        (["MODEL", "Why?", "--compare", "ful"], "Did you mean 'full'"),
        (["MODEL", "Why?", "--budget", "much"], "unknown budget"),
        (["MODEL", "Why?", "--compare", "window"], "'window' keeps no cache"),
        (["MODEL", " "], "an empty question"),
        (["MODEL", "Why?", "--fiel", "x"], "unknown option"),
    ],
)
def test_wrong_requests_are_answered_with_what_is_right(
    words: list[str], told: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (
        ("face.png", b"x"),
        ("face.heic", b"x"),
        ("voice.wav", b"x"),
        ("latin.txt", b"x\xe9"),
    ):
        (tmp_path / name).write_bytes(content)
    given = [w.replace("MODEL", model).replace("FOLDER", str(tmp_path)) for w in words]
    assert main(["ask", *given]) == 2
    assert told in capsys.readouterr().err


def test_the_table_breaks_no_number_at_80_columns_and_the_threshold_is_noted_once(
    model: str, note: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    words = ["ask", model, "Did it rain?", "--file", str(note), "--policy", "namm", "--tokens", "2"]
    assert main([*words, "--interval", "64"]) == 0
    told = capsys.readouterr()
    rows = [line for line in told.out.splitlines() if line.startswith("│")]
    assert max(len(line) for line in rows) <= 80
    for part in (r"\d+ of \d+ ", r"\d+ % ", r"[\d.]+ KiB "):
        assert sum(bool(re.search(part, line)) for line in rows) >= 3
    assert [line.split()[1] for line in rows if "100 %" in line] == ["│"]  # full: no budget
    assert told.out.count("was set for interval 128") == 1
    assert not [one for one in recwarn if "threshold" in str(one.message)]
