"""One broken sample is an error of that sample: in every task the others are scored, exit code 0.

Each task gets a folder of good samples and one broken one of each sort that was met.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark_folders
import pytest
import text_benchmark_files

from namm_mm.experiment import run
from namm_mm.experiment.reading import from_mapping
from namm_mm.experiment.settings import ExperimentSettings
from namm_mm.records import Record
from namm_mm.runs import read_records

LONE = "\ud83d"
"""Half of a pair that JSON can say and no text file can hold."""

TEXT = {"name": "text", "model": "text", "dtype": "float32", "device": "cpu", "max_new_tokens": 4}
VIDEO = {"name": "llava_video", "model": "video", "dtype": "float32", "device": "cpu", "frames": 2}


@pytest.fixture(autouse=True)
def _in_tiny_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)


def settings(adapter: dict[str, Any], task: dict[str, Any], split: str) -> ExperimentSettings:
    cell = {"adapter": adapter, "task": task, "interval": 16, "split": split}
    return from_mapping(
        {
            "name": "broken",
            "wandb": "disabled",
            "policies": ["full"],
            "cells": {"one": cell},
        }
    )


def errors(
    tmp_path: Path, adapter: dict[str, Any], task: dict[str, Any], split: str = "test"
) -> dict[str, str]:
    """Run a cell, go on with it, and return what each sample's record says."""
    folder = tmp_path / "run"
    asked = settings(adapter, task, split)
    records = run(asked, folder=folder).records
    again = run(asked, folder=folder).records
    assert [r.sample for r in again] == [r.sample for r in records]
    assert [r.sample for r in read_records(folder)[0]] == [r.sample for r in records]
    return {record.sample: told(record) for record in records}


def told(record: Record) -> str:
    assert (record.value is None) == bool(record.error)
    return record.error


def write_lines(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def break_videos(folder: Path) -> dict[str, str]:
    """Write videos that cannot be read, and return them by name with what is said of them."""
    whole = (folder / "whole.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "page.mp4").write_text("<html>404</html>")
    (folder / "folder.mp4").mkdir()
    (folder / "dangling.mp4").symlink_to("nowhere.mp4")
    os.mkfifo(folder / "pipe.mp4")
    return {
        "gone.mp4": "no such video",
        "cut.mp4": "cannot read",
        "empty.mp4": "cannot read",
        "page.mp4": "cannot read",
        "folder.mp4": "is a folder",
        "dangling.mp4": "no such video",
        "pipe.mp4": "a pipe",
        "a\0b.mp4": "no such video",
        "long" * 90 + ".mp4": "too long",
    }


def check(found: dict[str, str], good: set[str], broken: dict[str, str]) -> None:
    """`good` samples are scored, and each of `broken` is an error that says what it says."""
    assert set(found) == good | set(broken)
    assert {name for name, error in found.items() if not error} == good
    for name, words in broken.items():
        assert words in found[name], (name, found[name])


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


class Rows:
    """Rows of a benchmark, and what the record of each is to say."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.expected: dict[str, str] = {}

    def add(self, row: Any, name: str = "", words: str = "") -> None:
        """Add a row; without a name it is one of which no sample can be made."""
        self.rows.append(row)
        self.expected[name or f"row-{len(self.rows)}"] = words

    def check(self, found: dict[str, str]) -> None:
        assert set(found) == set(self.expected)
        for name, words in self.expected.items():
            assert words in found[name], (name, found[name])
            assert bool(words) == bool(found[name]), (name, found[name])


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


def test_longbench(tmp_path: Path) -> None:
    folder = tmp_path / "longbench"
    row = {
        "input": "Who?",
        "context": "Ann was here.",
        "answers": ["Ann"],
        "all_classes": None,
        "length": 3,
        "dataset": "trec",
        "language": "en",
    }
    rows = [
        {**row, "_id": "good"},
        {**row, "_id": "lone", "answers": [f"Ann {LONE}"]},
        {**row, "_id": "lone-context", "context": LONE},
        {**row, "_id": "classes", "all_classes": 5},
        {**row, "_id": "no-answer", "answers": []},
        {**row, "_id": "number", "context": 5},
        "{broken",
        "[1]",
    ]
    write_lines(folder / "trec.jsonl", rows)
    (folder / "trec.jsonl").write_bytes(b"\xef\xbb\xbf" + (folder / "trec.jsonl").read_bytes())
    task = {"name": "longbench", "families": ["trec"], "source": str(folder), "splits": "published"}
    found = errors(tmp_path, TEXT, task)
    assert len(found) == len(rows)
    assert found["trec-good"] == ""
    assert "classes" in str(found)
    for name, words in (("5", "answers"), ("6", "context"), ("7", "no JSON"), ("8", "no JSON")):
        assert words in found[f"trec-line-{name}"]
        assert "trec.jsonl, line" in found[f"trec-line-{name}"]


BROKEN_ROWS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "lone": lambda row: {**row, "context": f"x {LONE}"},
    "none": lambda row: {name: value for name, value in row.items() if name != "context"},
    "text": lambda _row: "{broken",
    "list": lambda _row: "[1]",
    "null": lambda row: {**row, "answer": None, "answers": None},
}


@pytest.mark.parametrize(
    ("task", "subset"),
    [
        *(("infinitebench", subset) for subset in ("passkey", "code_debug", "code_run")),
        ("choubun", "wiki_qa"),
    ],
)
def test_text_benchmarks(tmp_path: Path, task: str, subset: str) -> None:
    tables = {
        "infinitebench": text_benchmark_files.INFINITEBENCH,
        "choubun": text_benchmark_files.CHOUBUN,
    }
    good = tables[task][subset][0]
    folder = tmp_path / task
    write_lines(folder / f"{subset}.jsonl", [good, *(harm(good) for harm in BROKEN_ROWS.values())])
    options: dict[str, Any] = {"name": task, "source": str(folder), "subsets": [subset]}
    if task == "choubun":
        options["words"] = "characters"
    found = errors(tmp_path, TEXT, options)
    assert len(found) == 1 + len(BROKEN_ROWS)
    assert found[f"{subset}/0"] == ""
    for number, (name, _) in enumerate(BROKEN_ROWS.items(), start=1):
        if name in ("none", "text", "list"):
            assert f"{subset}.jsonl, " in found[f"{subset}/{number}"]


def test_every_task_is_tested_here() -> None:
    from namm_mm.tasks import TASKS

    generated = {
        "long_text",
        "offline_rl",
    }  # no files of samples: see test_experiment_failed_episodes.py
    here = {"video_qa", "longvideobench", "mlvu", "video_mme", "longbench", "infinitebench"}
    assert set(TASKS) == here | generated | {"choubun"}
