"""One broken sample is an error of that sample, in every task on videos: the others are scored.

Each task gets a folder of good samples and one broken one of each sort that was met.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import benchmark_folders
import pytest
from broken_samples import LONE, Rows, break_videos, check, errors, write_lines

VIDEO = {"name": "llava_video", "model": "video", "dtype": "float32", "device": "cpu", "frames": 2}


@pytest.fixture(autouse=True)
def _in_tiny_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)


def test_videos_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    benchmark_folders.save_clip(folder / "whole.mp4")
    broken = break_videos(folder)
    row = {"question": "Which?", "options": ["a", "b"], "answer": "A"}
    odd: list[dict[str, Any]] = [
        {**row, "id": "lone-question", "video": "whole.mp4", "question": f"Which {LONE}?"},
        {**row, "id": "lone-option", "video": "whole.mp4", "options": ["a", LONE]},
        {"id": "lone-answer", "video": "whole.mp4", "question": "What?", "answer": LONE},
        {**row, "id": f"lone-id-{LONE}", "video": "whole.mp4"},
        {**row, "id": "separators", "video": "whole.mp4", "question": "A\u2028B\u2029C\u0085D"},
    ]
    rows = [
        *({**row, "id": name, "video": name} for name in broken),
        {**row, "id": "good", "video": "whole.mp4"},
        *odd,
    ]
    write_lines(folder / "questions.jsonl", rows)
    found = errors(tmp_path, VIDEO, {"name": "video_qa", "source": str(folder)})
    scored_or_counted = {str(sample["id"]) for sample in odd}
    assert found["separators"] == ""
    check(
        {name: error for name, error in found.items() if name not in scored_or_counted},
        {"good"},
        broken,
    )
    assert scored_or_counted < set(found)


def test_longvideobench(tmp_path: Path) -> None:
    folder = benchmark_folders.save_longvideobench(tmp_path / "lvb")
    (folder / "videos" / "whole.mp4").symlink_to("one.mp4")
    broken = break_videos(folder / "videos")
    good = json.loads((folder / "lvb_val.json").read_text())[0]
    entry = {"start": "00:00:10.500", "end": "00:00:11.900", "line": "a red wall"}
    subtitles: dict[str, tuple[Any, str]] = {
        "null": ([{**entry, "start": None}, entry], ""),
        "short": ([{**entry, "start": "00:10", "end": "00:12"}], ""),
        "stamp": ([{"timestamp": [None, 3.0], "text": "x"}, {"timestamp": [10.5], "text": 1}], ""),
        "kinds": ([None, 3, entry, {**entry, "line": None}], ""),
        "object": ({"a": 1}, "no list"),
        "latin": (b'["caf\xe9"]', "unreadable text"),
        "cut": (b'[{"start": "00', "cannot read the subtitles"),
    }
    rows = Rows()
    rows.add(good, good["id"])
    for name, (content, words) in subtitles.items():
        file = folder / "subtitles" / f"{name}.json"
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        rows.add({**good, "id": name, "subtitle_path": file.name}, name, words)
    for name, words in broken.items():
        rows.add(
            {**good, "id": f"video-{name[:9]}", "video_path": name}, f"video-{name[:9]}", words
        )
    for choice in ("0", 1.0):
        rows.add({**good, "id": f"{choice!r}", "correct_choice": choice}, f"{choice!r}")
    for wrong in (7, None, "D", True, -1, 1.5):
        rows.add({**good, "correct_choice": wrong}, words="wrong correct_choice")
    rows.add(None, words="no JSON object")
    rows.add("text", words="no JSON object")
    rows.add({**good, "duration": "long"}, words="wrong duration")
    rows.add({k: v for k, v in good.items() if k != "question"}, words="'question' is missing")
    (folder / "lvb_val.json").write_text(json.dumps(rows.rows))
    task = {"name": "longvideobench", "source": str(folder), "subtitles": True, "frames": 2}
    rows.check(errors(tmp_path, VIDEO, task, "validation"))


def test_mlvu(tmp_path: Path) -> None:
    folder = tmp_path / "mlvu"
    benchmark_folders.save_clip(folder / "whole.mp4")
    broken = break_videos(folder)
    row = {
        "video": "whole.mp4",
        "question": "What?",
        "candidates": ["a dog", "a cat"],
        "answer": "a cat",
        "question_type": "plotQA",
    }
    rows = [
        row,
        {**row, "answer": "a bird"},
        {**row, "candidates": [], "question_type": "summary", "answer": "A long text."},
        {**row, "question": f"What {LONE}?"},
        *({**row, "video": name} for name in broken),
    ]
    (folder / "json").mkdir()
    (folder / "json" / "1_plotQA.json").write_text(json.dumps(rows))
    found = errors(tmp_path, VIDEO, {"name": "mlvu", "source": str(folder)}, "validation")
    assert len(found) == len(rows) - 1  # the kind without options is not asked
    assert found["plotQA/whole"] == ""
    assert "none of its options" in found["row-2"]
    assert sum(not error for error in found.values()) in (1, 2)  # with the lone half or without


def test_video_mme(tmp_path: Path) -> None:
    folder = benchmark_folders.save_video_mme(tmp_path / "mme")
    (folder / "data" / "whole.mp4").symlink_to("aaa.mp4")
    broken = break_videos(folder / "data")
    row = {
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Geography",
        "videoID": "aaa",
        "task_type": "Counting",
        "question": "What?",
        "options": ["A. x", "B. y", "C. z", "D. w"],
        "answer": "A",
    }
    srt: dict[str, tuple[bytes, str]] = {
        "none": (b"1\nNone --> None\nx\n\n2\n00:00:00,000 --> 00:00:02,000\ny\n", ""),
        "dots": (b"1\n00:00:00.000 --> 00:00:02.000\nx\n", ""),
        "blank": (b"1\n00:00:00,000 --> 00:00:02,000\nx\n\nmore\nof\nit\n\n2\n", ""),
        "windows": (b"\xef\xbb\xbf1\r\n00:00:00,000 --> 00:00:02,000\r\nx\r\n", ""),
        "nothing": (b"", ""),
        "latin": (b"1\n00:00:00,000 --> 00:00:02,000\ncaf\xe9\n", "unreadable text"),
    }
    rows = Rows()
    for name, (content, words) in srt.items():
        (folder / "subtitle" / f"{name}.srt").write_bytes(content)
        (folder / "data" / f"{name}.mp4").symlink_to("aaa.mp4")
        rows.add({**row, "question_id": name, "videoID": name}, name, words)
    for name, words in broken.items():
        stem = name.removesuffix(".mp4")
        if "\0" not in stem and len(stem) < 99:
            text = b"1\n00:00:00,000 --> 00:00:02,000\nx\n"
            (folder / "subtitle" / f"{stem}.srt").write_bytes(text)
        said = "video" if "read" in words else words
        named = f"video-{stem[:9]}"
        rows.add({**row, "question_id": named, "videoID": stem}, named, said)
    wrong: dict[str, Any] = {"answer": "E", "options": "A or B", "question": None}
    for field, value in wrong.items():
        rows.add({**row, "question_id": "x", field: value}, words=field)
    (folder / "videomme" / "test-00000-of-00001.parquet").unlink()
    (folder / "videomme.json").write_text(json.dumps(rows.rows))
    task = {"name": "video_mme", "source": str(folder), "subtitles": True, "frames": 2}
    rows.check(errors(tmp_path, VIDEO, task))
