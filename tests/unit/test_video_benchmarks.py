"""Published video benchmarks, read from tiny folders in their layouts, scored as by lmms-eval.

Expected prompts, letters and interleavings were recorded from lmms-eval 0.7.3 on the same data.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmark_folders
import pytest
from benchmark_records import record

from namm_mm.experiment.benchmarks import save_table
from namm_mm.records import FRAME_MARK, Answer
from namm_mm.tasks.base import AnsweringTask
from namm_mm.tasks.longvideobench import LongVideoBenchTask
from namm_mm.tasks.longvideobench.subtitles import frame_moments, interleave
from namm_mm.tasks.mlvu import MlvuTask
from namm_mm.tasks.video_benchmarks.replies import first_letter, ranked_letter
from namm_mm.tasks.video_mme import VideoMmeTask
from namm_mm.tasks.video_qa import VideoQaTask

LIST = "A. a red wall\nB. a blue wall\nC. a dog\nD. a cat\n"


CHOOSE = "Answer with the option's letter from the given choices directly."


@pytest.fixture(scope="module")
def lvb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return benchmark_folders.save_longvideobench(tmp_path_factory.mktemp("lvb"))


@pytest.fixture(scope="module")
def mlvu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return benchmark_folders.save_mlvu(tmp_path_factory.mktemp("mlvu"))


@pytest.fixture(scope="module")
def mme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return benchmark_folders.save_video_mme(tmp_path_factory.mktemp("mme"))


# -- replies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "first", "ranked"),
    [
        ("B", "B", "B"),
        ("(C) a dog", "C", "C"),
        ("The answer is D. a cat", "D", "D"),
        ("Best option: (B", "B", "B"),
        ("Based on the video, C", "B", "C"),  # the first letter anywhere
        ("A dog. The answer is (C)", "A", "A"),  # a reply that begins with a letter, as A is one
        ("either A or B, so I choose C because D", "A", "D"),
        ("a red wall", None, None),
        ("正确答案是C", "C", "C"),
        ("E", "E", None),  # the second reads A to D only
        ("", None, None),
    ],
)
def test_letters_are_read_as_by_lmms_eval(
    reply: str, first: str | None, ranked: str | None
) -> None:
    assert first_letter(reply) == first
    assert ranked_letter(reply) == ranked


# -- LongVideoBench -------------------------------------------------------------------------------


def test_longvideobench_asks_in_the_published_words(lvb: Path, tmp_path: Path) -> None:
    task = LongVideoBenchTask(source=str(lvb))
    assert isinstance(task, AnsweringTask)
    samples = task.samples("validation", None, 0)
    assert samples[1].prompt == f"What is on wall 1?\n{LIST}{CHOOSE}\n"
    assert (samples[1].answer, samples[1].metadata["letter"]) == ("a blue wall", "B")
    assert samples[1].video == lvb / "videos" / "two.mp4"
    table = benchmark_folders.save_longvideobench(tmp_path / "table", parquet=True)
    rows = LongVideoBenchTask(source=str(table)).samples("validation", None, 0)
    assert [s.prompt for s in rows[1:]] == [s.prompt for s in samples[1:]]
    assert rows[0].options == benchmark_folders.OPTIONS[:3], "N/A is no option"
    assert task.fingerprint() != LongVideoBenchTask(source=str(lvb), subtitles=True).fingerprint()
    assert task.samples("train", None, 0) == ()


def test_longvideobench_puts_subtitles_between_the_frames_around_them(lvb: Path) -> None:
    task = LongVideoBenchTask(source=str(lvb), subtitles=True, frames=16)
    one, two = task.samples("validation", None, 0)[:2]
    # Three seconds: a frame a second. The second subtitle of `one` covers none of them.
    assert one.prompt.startswith(f"{FRAME_MARK}\n{FRAME_MARK}\na red wall\n{FRAME_MARK}\nWhat is")
    assert two.prompt.startswith(f"{FRAME_MARK}\nhello\n{FRAME_MARK}\n{FRAME_MARK}\n")
    assert frame_moments(32.0, 4) == [0.0, 8.0, 16.0, 24.0]
    whole = [{"timestamp": [6, 9], "text": "an end that is no decimal number is that of the video"}]
    lines = interleave(frame_moments(32.0, 4), whole, start=0.0, duration=32.0).splitlines()
    assert lines == [FRAME_MARK] * 3 + [whole[0]["text"], FRAME_MARK]


def test_longvideobench_counts_what_is_unparsable_drawn_and_missing(lvb: Path) -> None:
    wrong, drawing = (
        LongVideoBenchTask(source=str(lvb), unparsable=how) for how in ("wrong", "random")
    )
    samples = wrong.samples("validation", None, 0)
    notice = wrong.notices(samples)[0]
    assert notice.startswith("1 of 3 videos are missing")
    assert "gone.mp4" in notice
    assert "2 questions" in notice
    replies = ["A", "none", None, "D", "nothing", None]
    for task, drawn in ((wrong, 0), (drawing, 2)):
        pairs = zip(samples, replies, strict=True)
        table = task.summary([record(task, s, r) for s, r in pairs])["full"]
        assert (table["n"], table["errors"], table["unparsed"], table["drawn"]) == (4, 2, 2, drawn)
        assert table["missing"] == ["gone.mp4"]
        assert set(table["duration_group"]) == {"15", "60"}
        assert set(table["question_category"]) == {"T2E", "E2O"}
    scores = [drawing.score(samples[1], Answer("none")).details for _ in range(2)]
    assert scores[0] == scores[1], "a draw is seeded by the sample"
    assert wrong.summary([record(wrong, s, s.metadata["letter"]) for s in samples])["full"][
        "overall"
    ] == pytest.approx(100.0)


def test_the_test_split_of_longvideobench_gives_a_submission(lvb: Path) -> None:
    task = LongVideoBenchTask(source=str(lvb))
    samples = task.samples("test", None, 0)
    score = task.score(samples[0], Answer("C"))
    assert (score.metric, score.value) == ("parsed", 1.0)
    summary = task.summary([record(task, samples[0], "C."), record(task, samples[1], "hm")])
    assert summary["full"]["submission"] == {samples[0].id: "C.", samples[1].id: "hm"}


# -- MLVU -----------------------------------------------------------------------------------------


def test_mlvu_averages_over_kinds_and_counts_what_cannot_be_reached(mlvu: Path) -> None:
    task = MlvuTask(source=str(mlvu))
    samples = task.samples("validation", None, 0)
    assert samples[0].prompt.startswith("Question: What is on wall 0?\nOptions:\n(A) a red wall\n")
    assert samples[0].prompt.endswith("(D) a cat\nOnly give the best option.\nBest option: (")
    assert task.samples("test", None, 0)[0].prompt.endswith("(D) a cat")
    assert samples[0].options == benchmark_folders.OPTIONS
    assert len({s.id for s in samples}) == 5
    replies = ["A", "A", "C", "A", "E"]  # plotQA: 2 of 3, needle: 0 of 1, count: 0 of 1
    table = task.summary([record(task, s, r) for s, r in zip(samples, replies, strict=True)])[
        "full"
    ]
    assert table["overall"] == pytest.approx(100 * (2 / 3 + 0 + 0) / 3)
    assert table["task_type"]["plotQA"] == {"score": pytest.approx(200 / 3), "n": 3}
    assert (table["unreachable"], table["unparsed"]) == (1, 1)
    whole = MlvuTask(source=str(mlvu), letters="all")
    assert whole.score(samples[4], Answer("E")).value == 1.0
    by_likelihood = task.score(samples[4], Answer("a bird", 4, (-9.0,) * 4 + (0.0, -9.0)))
    assert (by_likelihood.value, by_likelihood.details["unreachable"]) == (1.0, False)


def test_mlvu_reads_its_authors_files_too(tmp_path: Path, mlvu: Path) -> None:
    row = {"video": "clip0.mp4", "question": "What is on wall 0?", "question_type": "plotQA"}
    row |= {"candidates": list(benchmark_folders.OPTIONS), "answer": "a red wall"}  # type: ignore[dict-item]
    free = {"video": "clip0.mp4", "question": "Tell it", "answer": "x", "question_type": "summary"}
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "1_plotQA.json").write_text(json.dumps([row]))
    (tmp_path / "json" / "9_summary.json").write_text(json.dumps([free]))
    found = MlvuTask(source=str(tmp_path)).samples("validation", None, 0)
    wanted = MlvuTask(source=str(mlvu)).samples("validation", None, 0)[0]
    assert [s.prompt for s in found] == [wanted.prompt]


# -- Video-MME ------------------------------------------------------------------------------------


def test_video_mme_asks_with_and_without_subtitles(mme: Path) -> None:
    task = VideoMmeTask(source=str(mme))
    sample = task.samples("test", None, 0)[0]
    opening = "Select the best answer to the following multiple-choice question based on the video"
    listed = "What is on wall 0?\nA. a red wall.\nB. a blue wall.\nC. a dog.\nD. a cat.\n"
    assert sample.prompt.startswith(opening)
    assert sample.prompt.endswith(f"option.\n{listed}\n{CHOOSE}")
    with_them = VideoMmeTask(source=str(mme), subtitles=True).samples("test", None, 0)
    heading = "This video's subtitles are listed below: \n"
    assert with_them[0].prompt.startswith(f"{heading}a red wall\na dog\n{opening}")
    assert with_them[0].prompt.endswith(f"{listed}The best answer is:")
    assert with_them[2].prompt.startswith(f"{heading}No subtitles available\n")
    assert with_them[2].video == mme / "data" / "bbb.MP4"
    table = task.summary([record(task, s, "A") for s in task.samples("test", None, 0)])["full"]
    assert table["overall"] == pytest.approx(25.0)
    assert set(table["duration"]) == {"short", "long"}
    assert set(table["domain"]) == {"Knowledge", "Sports Competition"}
    one = VideoMmeTask(source=str(mme), families=["long"]).samples("test", 1, 0)
    assert [s.family for s in one] == ["long"]


# -- tables and answers of all of them ------------------------------------------------------------


def test_a_run_that_goes_on_makes_its_table_of_all_its_records(lvb: Path, tmp_path: Path) -> None:
    task = LongVideoBenchTask(source=str(lvb))
    samples = task.samples("validation", None, 0)
    mark: dict[str, Any] = {"dataset": task.fingerprint(), "model": "m"}
    earlier = [replace(record(task, s, "A"), **mark) for s in samples[:2]]
    now = [replace(record(task, samples[3], "D"), **mark)]
    other = [replace(record(task, samples[4], "D"), **{**mark, "model": "another"})]
    said = list(save_table(tmp_path, "lvb", task, "m", [*earlier, *now, *other]))
    assert said == ["lvb, full: 66.7 (mean over questions, n=3)"]
    assert json.loads((tmp_path / "benchmark.json").read_text())["lvb"]["full"]["n"] == 3
    assert list(save_table(tmp_path, "none", VideoQaTask(), "m", now)) == []


def test_an_answer_that_is_none_of_the_options_is_told_and_counted(tmp_path: Path) -> None:
    row = {
        "video": "a.mp4",
        "question": "What?",
        "candidates": ["a dog", "a cat "],
        "answer": "a cat",
        "question_type": "count",
    }
    rows = [row, {**row, "answer": "a bird"}]
    (tmp_path / "mlvu.json").write_text(json.dumps(rows))
    good, wrong = MlvuTask(source=str(tmp_path)).samples("validation", None, 0)
    assert (good.fault, good.answer) == ("", "a cat")
    assert "none of its options: got 'a bird'" in wrong.fault


@pytest.mark.parametrize(("given", "letter"), [("0", "A"), (1.0, "B"), (3, "D"), (" 2 ", "C")])
def test_a_right_choice_is_read_however_it_is_written(
    tmp_path: Path, given: object, letter: str
) -> None:
    folder = benchmark_folders.save_longvideobench(tmp_path)
    rows = json.loads((folder / "lvb_val.json").read_text())
    rows[0]["correct_choice"] = given
    (folder / "lvb_val.json").write_text(json.dumps(rows))
    task = LongVideoBenchTask(source=str(folder))
    sample = task.samples("validation", None, 0)[0]
    assert sample.metadata["letter"] == letter
    assert task.score(sample, Answer("E")).metric == "accuracy"
    assert task.score(sample, Answer("E")).value == 0.0
