"""Every reader of texts splits at line feeds, takes a byte order mark, and names encodings."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import text_benchmark_files

from namm_mm.errors import UsageError
from namm_mm.records import Sample
from namm_mm.tasks import faults
from namm_mm.tasks.choubun import ChouBunTask
from namm_mm.tasks.infinitebench import InfiniteBenchTask
from namm_mm.tasks.long_text import sources
from namm_mm.tasks.longbench import LongBenchTask
from namm_mm.tasks.longvideobench import LongVideoBenchTask
from namm_mm.tasks.mlvu import MlvuTask
from namm_mm.tasks.text_files import decode, json_lines, lines, read_text
from namm_mm.tasks.video_mme import VideoMmeTask
from namm_mm.tasks.video_qa import VideoQaTask

SEPARATORS = "one\u2028two\u2029three\u0085four\x0bfive\x0csix\x1cseven"
"""What `str.splitlines` takes for ends of lines; the first three may stand raw in JSON strings."""

LONGBENCH = {"input": "?", "context": "x", "answers": ["y"], "_id": "1"}
MME = {
    **dict.fromkeys(("duration", "domain", "sub_category", "task_type"), "a"),
    **{"question_id": "1", "videoID": "v", "options": ["A. x", "B. y"], "answer": "A"},
}
LVB = {
    "id": "1",
    "video_path": "v.mp4",
    "duration_group": 15,
    "duration": 3.0,
    "candidates": ["x", "y"],
    "correct_choice": 0,
}
MLVU = {"video": "v.mp4", "candidates": ["x", "y"], "answer": "y", "question_type": "count"}
QUESTION = {"video": "v.mp4", "options": ["x", "y"], "answer": "A"}

Read = Callable[[Path], Sequence[Sample]]
READERS: dict[str, tuple[str, dict[str, Any], str, Read]] = {
    "video_qa": (
        "questions.jsonl",
        QUESTION,
        "question",
        lambda folder: VideoQaTask(source=str(folder)).samples("test", None, 0),
    ),
    "longbench": (
        "trec.jsonl",
        LONGBENCH,
        "input",
        lambda folder: LongBenchTask(("trec",), str(folder), "published").samples("test", None, 0),
    ),
    "infinitebench": (
        "kv_retrieval.jsonl",
        text_benchmark_files.INFINITEBENCH["kv_retrieval"][0],
        "input",
        lambda folder: InfiniteBenchTask(str(folder), ["kv_retrieval"]).samples("test", None, 0),
    ),
    "choubun": (
        "wiki_qa.jsonl",
        text_benchmark_files.CHOUBUN["wiki_qa"][0],
        "input",
        lambda folder: ChouBunTask(str(folder), ["wiki_qa"]).samples("test", None, 0),
    ),
    "longvideobench": (
        "lvb_val.json",
        LVB,
        "question",
        lambda folder: LongVideoBenchTask(source=str(folder)).samples("validation", None, 0),
    ),
    "mlvu": (
        "mlvu.json",
        MLVU,
        "question",
        lambda folder: MlvuTask(source=str(folder)).samples("validation", None, 0),
    ),
    "video_mme": (
        "videomme.json",
        MME,
        "question",
        lambda folder: VideoMmeTask(source=str(folder)).samples("test", None, 0),
    ),
}
"""Of each task: its file, a row of it, the field that is asked, and what reads a folder."""


def content(task: str, text: str) -> str:
    """The file of a task with two rows, the first of which asks `text`; raw, not escaped."""
    name, row, field, _ = READERS[task]
    rows = [{**row, field: text}, {**row, field: "other"}]
    if task == "video_qa":
        rows = [{**row, "id": str(number)} for number, row in enumerate(rows)]
    if name.endswith(".json"):
        return json.dumps(rows, ensure_ascii=False)
    return "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)


@pytest.mark.parametrize("task", READERS)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_separators_inside_of_strings_and_a_mark_before_them_are_read(
    tmp_path: Path, task: str, mark: bytes
) -> None:
    name, _, _, read = READERS[task]
    (tmp_path / name).write_bytes(mark + content(task, SEPARATORS).encode())
    samples = read(tmp_path)
    assert len(samples) == 2
    assert not any(sample.fault for sample in samples)
    said = [f"{sample.question}{sample.context}{sample.prompt}" for sample in samples]
    assert sum(SEPARATORS in text for text in said) == 1


@pytest.mark.parametrize("task", READERS)
@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        ("Où est le café? Über allen Gipfeln.", "latin-1", "Latin-1"),
        ("请根据文章回答：北京是中国的首都，对不对？", "gbk", "GBK"),  # noqa: RUF001
        ("Where?", "utf-16", "UTF-16"),
    ],
)
def test_another_encoding_is_refused_by_name(
    tmp_path: Path, task: str, text: str, encoding: str, named: str
) -> None:
    name, _, _, read = READERS[task]
    (tmp_path / name).write_bytes(content(task, text).encode(encoding, "ignore"))
    with pytest.raises(UsageError) as caught:
        read(tmp_path)
    said = str(caught.value)
    assert name in said
    assert f"looks like {named}" in said
    assert " at " in said, "the byte is not named"


@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        ("東京は日本の首都です。カタカナも。", "shift_jis", "Shift JIS"),
        ("東京は日本の首都です。カタカナも。", "euc_jp", "EUC-JP"),
        ("서울은 대한민국의 수도이다.", "euc_kr", "EUC-KR"),
        ("臺灣的首都是臺北，歡迎光臨這裡", "big5", "Big5"),  # noqa: RUF001
        ("naïve “quotes” ’ here", "cp1252", "Windows-1252"),  # noqa: RUF001
    ],
)
def test_the_encoding_that_a_file_looks_like_is_told(text: str, encoding: str, named: str) -> None:
    with pytest.raises(UsageError, match=rf"looks like .*{named}"):
        decode(text.encode(encoding), "file.txt")


def test_the_byte_and_the_line_are_told_from_the_start_of_the_file() -> None:
    with pytest.raises(UsageError, match="byte 0xe9 at 10, in line 2"):
        decode(codecs.BOM_UTF8 + b"one\ntwo\xe9", "file.txt")


def test_lines_keep_their_numbers_and_end_at_line_feeds(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n  \r\ntwo\xe2\x80\xa8more\r\n")
    assert list(lines(read_text(path))) == [(1, "one"), (4, "two\u2028more")]
    found = list(json_lines('{"a": 1}\n{\n\n[1]\n' + "[" * 100_000))
    assert found[0] == (1, {"a": 1})
    assert [number for number, _ in found] == [1, 2, 4, 5]
    assert [isinstance(row, str) for _, row in found] == [False, True, True, True]


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot open gone\.txt"):
        read_text(tmp_path / "gone.txt")
    with pytest.raises(UsageError, match="cannot open"):
        read_text(tmp_path)


def test_texts_to_hide_things_in_may_have_a_mark(tmp_path: Path) -> None:
    for number in range(3):
        text = " ".join(f"word{'abc'[number]} of running text" for _ in range(20))
        (tmp_path / f"{number}.txt").write_bytes(codecs.BOM_UTF8 + text.encode())
    parts = [sources.prose(split, str(tmp_path)) for split in sources.SPLITS]
    assert sum(map(len, parts)) == 3
    assert not any("\ufeff" in p for part in parts for d in part for p in d.paragraphs)


def test_a_notice_tells_how_many_samples_cannot_be_asked() -> None:
    good = [Sample(str(number), "f") for number in range(3)]
    assert faults.notices(good) == []
    bad = [faults.faulty(f"row-{number}", "f", f"fault {number}") for number in range(5)]
    (notice,) = faults.notices([*good, *bad])
    assert notice.startswith("5 of 8 samples cannot be asked")
    assert notice.endswith("fault 0; fault 1; fault 2; and 2 more")
