"""Published video benchmarks, read from tiny folders in their layouts, scored as by lmms-eval.

Expected prompts, letters and interleavings were recorded from lmms-eval 0.7.3 on the same data.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import benchmark_folders
import pytest
from synthetic_records import make_record

from namm_mm.errors import RunError, UsageError
from namm_mm.experiment.benchmarks import save_table
from namm_mm.records import FRAME_MARK, Answer, Asked, Record
from namm_mm.tasks.base import AnsweringTask
from namm_mm.tasks.longvideobench import LongVideoBenchTask
from namm_mm.tasks.longvideobench.subtitles import frame_moments, interleave
from namm_mm.tasks.mlvu import MlvuTask
from namm_mm.tasks.video_benchmarks import files
from namm_mm.tasks.video_benchmarks.clocks import seconds
from namm_mm.tasks.video_benchmarks.replies import first_letter, ranked_letter
from namm_mm.tasks.video_mme import VideoMmeTask
from namm_mm.tasks.video_mme.subtitles import Subtitle, read_srt, shown
from namm_mm.tasks.video_qa import VideoQaTask
from namm_mm.video import frame_count

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


def record(task: Any, sample: Any, reply: str | None, policy: str = "full") -> Record:
    """The record of a reply; of None, that of a sample that failed."""
    score = task.score(sample, Answer(reply)) if reply is not None else None
    return make_record(
        policy=policy,
        budget="full",
        sample=sample.id,
        value=score.value if score else None,
        metric=score.metric if score else "",
        error="" if score else "no such video",
        asked=Asked(video=sample.video.name),
        details=score.details if score else {},
        memory=None,
    )


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


# -- files ----------------------------------------------------------------------------------------


def test_archives_in_the_hub_cache_are_unpacked_once(
    tmp_path: Path, lvb: Path, mme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "lvb_val.json").write_bytes((lvb / "lvb_val.json").read_bytes())
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        tar.add(lvb / "videos", "videos")
    middle = len(whole.getvalue()) // 2 + 7
    for name, part in (("aa", whole.getvalue()[:middle]), ("ab", whole.getvalue()[middle:])):
        (snapshot / f"videos.tar.part.{name}").write_bytes(part)
    with tarfile.open(snapshot / "subtitles.tar", "w") as tar:
        tar.add(lvb / "subtitles", "subtitles")
    with zipfile.ZipFile(snapshot / "more.zip", "w") as archive:
        archive.write(mme / "data" / "aaa.mp4", "data/aaa.mp4")
    found = files._roots
    monkeypatch.setattr(files, "_roots", lambda published: [*found(published), snapshot])
    task = LongVideoBenchTask(subtitles=True)
    assert task.outlook("validation").downloads[0].cached
    samples = task.samples("validation", None, 0)
    target = tmp_path / "ours" / "benchmarks" / "LongVideoBench"
    assert samples[0].video == target / "videos" / "one.mp4"
    assert samples[0].video.read_bytes() == (lvb / "videos" / "one.mp4").read_bytes()
    assert (target / "data" / "aaa.mp4").is_file()
    before = samples[0].video.stat().st_mtime_ns
    samples[0].video.write_bytes(b"marked")
    task.samples("validation", None, 0)
    assert samples[0].video.read_bytes() == b"marked", "unpacked a second time"
    assert before


def test_a_benchmark_that_is_not_here_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "ours"))
    with pytest.raises(RunError) as caught:
        LongVideoBenchTask().samples("validation", None, 0)
    for words in (
        "longvideobench/LongVideoBench",
        "lvb_val.json",
        str(tmp_path / "datasets" / "longvideobench"),
        "hf download --repo-type dataset longvideobench/LongVideoBench",
        "task.download=true",
        "hf auth login",
    ):
        assert words in str(caught.value)
    with pytest.raises(RunError, match=r"cannot get sy1998/MLVU_dev .* with a network"):
        MlvuTask(download=True).samples("validation", None, 0)
    outlook = VideoMmeTask().outlook("test")
    assert (outlook.samples, outlook.downloads[0].cached) == (2700, False)


def test_wrong_requests_are_usage_errors(tmp_path: Path, lvb: Path, mme: Path) -> None:
    for make, words in (
        (lambda: LongVideoBenchTask(unparsable="guess"), "unknown treatment"),
        (lambda: LongVideoBenchTask(source=str(tmp_path / "no")), "no such folder"),
        (lambda: LongVideoBenchTask(frames=0), "1 or more"),
        (lambda: MlvuTask(letters="six"), "Known: all, four"),
        (lambda: VideoMmeTask(subtitle_order="tme"), "Did you mean 'time'"),
    ):
        with pytest.raises(UsageError, match=words):
            make()
    with pytest.raises(UsageError, match=r"a folder that holds lvb_val\.json"):
        LongVideoBenchTask(source=str(tmp_path)).samples("validation", None, 0)
    (tmp_path / "lvb_val.json").write_text("[1")
    with pytest.raises(UsageError, match=r"cannot read .*lvb_val\.json"):
        LongVideoBenchTask(source=str(tmp_path)).samples("validation", None, 0)
    (tmp_path / "lvb_val.json").write_text('[{"id": "x", "question": "?"}]')
    with pytest.raises(UsageError, match="row 1: the field 'video_path' is missing"):
        LongVideoBenchTask(source=str(tmp_path)).samples("validation", None, 0)
    with pytest.raises(UsageError, match="Known: long, short"):
        VideoMmeTask(source=str(mme), families=["medium"]).samples("test", None, 0)
    with pytest.raises(UsageError, match="Did you mean 'validation'"):
        LongVideoBenchTask(source=str(lvb)).samples("valid", None, 0)
    without = benchmark_folders.save_longvideobench(tmp_path / "more")
    (without / "subtitles" / "one_en.json").unlink()
    task = LongVideoBenchTask(source=str(without), subtitles=True)
    samples = task.samples("validation", None, 0)
    assert samples[0].prompt.startswith(f"{FRAME_MARK}\n{FRAME_MARK}\n{FRAME_MARK}\nWhat")
    assert "2 of 6 questions are asked without subtitles." in task.notices(samples)
    (without / "subtitles" / "one_en.json").write_text("{")
    broken = [sample for sample in task.samples("validation", None, 0) if sample.fault]
    assert len(broken) == 2
    assert all("task.subtitles=false" in sample.fault for sample in broken)


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


def test_frames_of_matroska_are_counted(tmp_path: Path) -> None:
    benchmark_folders.save_clip(tmp_path / "a.mp4", frames=12)
    with (
        av.open(str(tmp_path / "a.mp4")) as old,
        av.open(str(tmp_path / "a.mkv"), "w") as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert frame_count(tmp_path / "a.mp4") == frame_count(tmp_path / "a.mkv") == (12, 4.0)
    with pytest.raises(RunError, match=r"length of the video 'b\.mkv'"):
        frame_count(tmp_path / "b.mkv")


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
