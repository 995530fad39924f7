"""Miniature LongVideoBench, MLVU and Video-MME in their published layouts, with real mp4 files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from namm_mm.tasks.video_qa.encode import write_mp4

OPTIONS = ("a red wall", "a blue wall", "a dog", "a cat")


def save_clip(path: Path, seed: int = 0, frames: int = 12) -> None:
    blocks = np.random.default_rng(seed).integers(0, 255, (frames, 5, 6, 3), dtype=np.uint8)
    write_mp4(path, blocks.repeat(8, 1).repeat(8, 2), rate=4)


def save_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def save_longvideobench(folder: Path, *, parquet: bool = False) -> Path:
    """Six questions about two clips of 3 s and one that is missing; subtitles of both kinds."""
    rows = []
    for number in range(6):
        clip = ("one", "two", "gone")[number % 3]
        row: dict[str, Any] = {
            "id": f"{clip}_{number}",
            "video_id": clip,
            "question": f"What is on wall {number}?",
            "correct_choice": number % 4,
            "question_category": ("T2E", "E2O")[number % 2],
            "topic_category": "KA",
            "video_path": f"{clip}.mp4",
            "subtitle_path": f"{clip}_en.json",
            "duration_group": (15, 60)[number % 2],
            "starting_timestamp_for_subtitles": 10,
            "duration": 3.0,
        }
        if parquet:
            given = OPTIONS if number else OPTIONS[:3]
            row |= {f"option{i}": (*given, "N/A", "N/A")[i] for i in range(5)}
        else:
            row["candidates"] = list(OPTIONS)
        rows.append(row)
    if parquet:
        save_parquet(folder / "validation-00000-of-00001.parquet", rows)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lvb_val.json").write_text(json.dumps(rows))
        unanswered = [{k: v for k, v in row.items() if k != "correct_choice"} for row in rows]
        (folder / "lvb_test_wo_gt.json").write_text(json.dumps(unanswered))
    for seed, clip in enumerate(("one", "two")):
        save_clip(folder / "videos" / f"{clip}.mp4", seed)
    (folder / "subtitles").mkdir()
    clocks = [
        {"start": "00:00:10.500", "end": "00:00:11.900", "line": "a red wall"},
        {"start": "00:00:12.900", "end": "00:00:14.000", "line": "nothing"},
    ]
    stamps = [
        {"timestamp": [10.0, 10.4], "text": "hello"},
        {"timestamp": [11.2, 12], "text": "dog"},
    ]
    (folder / "subtitles" / "one_en.json").write_text(json.dumps(clocks))
    for clip in ("two", "gone"):
        (folder / "subtitles" / f"{clip}_en.json").write_text(json.dumps(stamps))
    return folder


def save_mlvu(folder: Path) -> Path:
    """Five questions in the hub's table: three kinds; one with six options, and E is right."""
    listed = "\n".join(f"({x}) {o}" for x, o in zip("ABCD", OPTIONS, strict=True))
    rows = [
        {
            "video_name": f"{1 + number % 2}_plotQA/clip{number % 2}.mp4",
            "duration": 3.0,
            "question": f"Question: What is on wall {number}?\nOptions:\n{listed}",
            "answer": "ABCD"[number],
            "task_type": ("plotQA", "needle", "plotQA", "plotQA")[number],
        }
        for number in range(4)
    ]
    more = listed + "\n(E) a bird\n(F) a fish"
    rows.append({**rows[0], "question": f"Question: And?\nOptions:\n{more}", "answer": "E"})
    rows[-1]["task_type"] = "count"
    save_parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    for number in range(2):
        save_clip(folder / f"{1 + number}_plotQA" / f"clip{number}.mp4", number)
    return folder


def save_video_mme(folder: Path) -> Path:
    """Four questions about two clips, one of them with subtitles, the other an .MP4."""
    rows = [
        {
            "video_id": f"{number // 2:03d}",
            "duration": ("short", "long")[number // 2],
            "domain": ("Knowledge", "Sports Competition")[number % 2],
            "sub_category": "Geography",
            "url": "",
            "videoID": ("aaa", "bbb")[number // 2],
            "question_id": f"{number // 2:03d}-{number % 2}",
            "task_type": "Counting Problem",
            "question": f"What is on wall {number}?",
            "options": [f"{x}. {o}." for x, o in zip("ABCD", OPTIONS, strict=True)],
            "answer": "ABCD"[number],
        }
        for number in range(4)
    ]
    save_parquet(folder / "videomme" / "test-00000-of-00001.parquet", rows)
    save_clip(folder / "data" / "aaa.mp4", 0)
    save_clip(folder / "data" / "tmp.mp4", 1)
    (folder / "data" / "tmp.mp4").rename(folder / "data" / "bbb.MP4")
    (folder / "subtitle").mkdir()
    entry = '{}\n00:00:{:02d},{} --> 00:00:{:02d},{}\n<font color="white" size=".72c">{}</font>\n'
    entries = [
        entry.format(1, 0, "000", 1, "000", "a red wall"),
        entry.format(2, 1, "000", 1, "900", "a dog"),
        "3\n00:00:02,000 --> 00:00:02,900\nplain text\n",
    ]
    (folder / "subtitle" / "aaa.srt").write_text("\n".join(entries))
    return folder
