"""One broken sample is an error of that sample, in every task on texts: the others are scored.

Each task gets a folder of good samples and one broken one of each sort that was met. Tasks on
videos stand in `test_one_broken_video.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import text_benchmark_files
from broken_samples import LONE, errors, write_lines

TEXT = {"name": "text", "model": "text", "dtype": "float32", "device": "cpu", "max_new_tokens": 4}


@pytest.fixture(autouse=True)
def _in_tiny_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)


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

    # Without files of samples; see test_experiment_failed_episodes.py.
    generated = {"long_text", "offline_rl"}
    texts = {"longbench", "infinitebench", "choubun"}
    # test_one_broken_video.py, and test_video_film.py for the lines of films.
    videos = {"video_qa", "film_qa", "longvideobench", "mlvu", "video_mme"}
    others = {"image_qa", "speech_qa"}  # test_one_broken_picture_or_sound.py
    assert set(TASKS) == texts | videos | others | generated
