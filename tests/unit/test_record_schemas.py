"""Records that an older version wrote are read with all that they say."""

from __future__ import annotations

import json
from pathlib import Path

from synthetic_records import make_record

from namm_mm.records import SCHEMA_VERSION, Asked, Media
from namm_mm.runs.jsonl import RECORDS, dumps, read_records, write_records

ROOT = Path(__file__).parents[2]

RECORD = make_record(
    task="video_qa",
    asked=Asked("What color was the bar?", ("white", "green"), "green", "clip.avi"),
    media=Media("frames/video-0.jpg", "history/video-0-namm.npz"),
    kept_by_kind={"text": 1.0, "frame": 0.25},
    details={"frames_seen": 8, "rope": "linear:2"},
)


def test_a_record_comes_back_equal_from_its_line(tmp_path: Path) -> None:
    write_records(tmp_path, [RECORD])
    assert read_records(tmp_path) == ([RECORD], [])


def test_what_schema_1_kept_in_details_is_read_into_fields(tmp_path: Path) -> None:
    write_records(tmp_path, [RECORD])
    line = json.loads((tmp_path / RECORDS).read_text())
    asked, media = line.pop("asked"), line.pop("media")
    line["kept_by_role"] = line.pop("kept_by_kind")
    line["details"] |= {
        "question": asked["question"],
        "options": asked["options"],
        "right": asked["right_answer"],
        "video": asked["video"],
        **media,
    }
    (tmp_path / RECORDS).write_text(dumps({**line, "schema": 1}) + "\n")
    assert read_records(tmp_path) == ([RECORD], [])

    bare = {**line, "schema": 1, "details": {}}
    (tmp_path / RECORDS).write_text(dumps(bare) + "\n")
    (record,), problems = read_records(tmp_path)
    assert not problems
    assert (record.asked, record.media, dict(record.details)) == (Asked(), Media(), {})


def test_the_records_of_the_gallery_are_read() -> None:
    run = ROOT / "research" / "gallery" / "run"
    records, problems = read_records(run)
    assert not problems
    assert {record.schema for record in records} == {SCHEMA_VERSION}
    for task in ("long_text", "video_qa"):
        asked = [record.asked for record in records if record.task == task]
        assert all(one.question and one.right_answer for one in asked)
    shown = [record.media for record in records if record.media.frames]
    assert shown
    assert all((run / media.frames).is_file() for media in shown)
