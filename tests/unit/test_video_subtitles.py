"""Subtitles of published video benchmarks: read, ordered, or left out and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import benchmark_folders
import pytest
from benchmark_records import record

from namm_mm.tasks.longvideobench import LongVideoBenchTask
from namm_mm.tasks.video_benchmarks.clocks import seconds
from namm_mm.tasks.video_mme.subtitles import Subtitle, read_srt, shown


def test_the_order_of_subtitles_is_that_of_a_set_or_that_of_time() -> None:
    marked = '<font color="white" size=".72c">{}</font>'
    entries = [Subtitle(i, i + 1, marked.format(i)) for i in range(9)]
    given: dict[str, Any] = {"frames": 2, "total": 90, "rate": 10.0}
    late = [Subtitle(0, 0.1, "plain")] * 1 + entries[1:]
    hits = shown(late, **given, in_order=True).split("\n")
    assert hits == ["8"], "text without the benchmark's mark is left out"
    both = [*entries[1:], entries[0]]  # the file's order is not that of time: 1, 2, ..., 8, 0
    assert shown(both, **given, in_order=True).split("\n") == ["8", "0"]
    assert shown(both, **given, in_order=False).split("\n") == ["0", "8"]  # {8, 7} of a set


@pytest.mark.parametrize(
    ("text", "entries", "unread"),
    [
        ("1\n00:00:01,000 --> 00:00:02,500\na\nb\n", [(1.0, 2.5, "a b")], 0),
        ("1\n00:00:01.000 --> 00:00:02.500\na\n", [(1.0, 2.5, "a")], 0),
        ("1\n01:02 --> 01:03\na\n", [(62.0, 63.0, "a")], 0),
        ("1\nNone --> None\na\n\n2\n0:00:01,0 --> 0:00:02,0\nb\n", [(1.0, 2.0, "b")], 1),
        ("1\n00:00:01,000 --> 00:00:02,000\na\n\nb\n", [(1.0, 2.0, "a b")], 0),
        ("1\n00:00:01,000 --> 00:00:02,000\na --> b\n", [(1.0, 2.0, "a --> b")], 0),
        ("\n\n1\n00:00:01,000 --> 00:00:02,000 X1:40\na\n", [(1.0, 2.0, "a")], 0),
        ("1\n00:00:01,000 --> 00:00:02,000\n\n", [], 0),
        ("", [], 0),
    ],
)
def test_odd_subtitles_are_read_or_counted(
    tmp_path: Path, text: str, entries: list[tuple[float, float, str]], unread: int
) -> None:
    path = tmp_path / "a.srt"
    path.write_text(text)
    found, left_out = read_srt(path)
    assert [tuple(entry) for entry in found] == entries
    assert left_out == unread


@pytest.mark.parametrize(
    ("clock", "value"),
    [
        ("00:00:10.500", 10.5),
        ("1:02:03,25", 3723.25),
        ("02:03", 123.0),
        ("7", 7.0),
        (7, 7.0),
        (2.5, 2.5),
        ("", None),
        ("None", None),
        (None, None),
        (True, None),
        (float("nan"), None),
        (-1.0, None),
        ("1:2:3:4", None),
    ],
)
def test_clocks_of_subtitles(clock: object, value: float | None) -> None:
    assert seconds(clock) == value


def test_subtitles_that_are_left_out_are_told(tmp_path: Path) -> None:
    folder = benchmark_folders.save_longvideobench(tmp_path)
    entries = [{"start": None, "end": "00:11", "line": "x"}]
    (folder / "subtitles" / "one_en.json").write_text(json.dumps(entries))
    task = LongVideoBenchTask(source=str(folder), subtitles=True)
    samples = task.samples("validation", None, 0)
    assert sum(bool(s.metadata["subtitles_left_out"]) for s in samples) == 2
    assert any("2 of 6 questions have subtitles whose time" in n for n in task.notices(samples))
    records = [record(task, sample, "A") for sample in samples]
    assert task.summary(records)["full"]["subtitles_left_out"] == 2
